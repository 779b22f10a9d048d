"""The order in which the cells of a plan are computed, and which of them are wanted at all."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from audit.config import RunConfig
from audit.core.evidence import Evidence
from audit.core.topic import topic_of
from audit.planning.plan import AuditPlan, Task
from audit.planning.steps import StudySteps, study_steps
from audit.results.run_results import RunResults
from audit.results.stopping import checked_readings, ending, steps_done

VERDICT_PRIORITY = 40
"""Topics of a lower `Topic.priority` than this give the findings that a report begins with."""


class Agenda:
    """Names the next cells to compute, each once.

    A later step of a sequential study is named when the steps before it are there and the study's rule still wants
    images; that depends on their evidence alone.
    """

    def __init__(self, plan: AuditPlan, config: RunConfig, cost: Callable[[Task], float] | None = None) -> None:
        """Nothing is named yet.

        Args:
            plan: The plan.
            config: The configuration of the run, whose criteria say when a study is decided.
            cost: What a cell costs, in any unit, for a run whose time may end: it begins with what each part needs at
                least. None for a run that ends by itself, which goes wave after wave.
        """
        self._plan, self._config, self._cost = plan, config, cost
        self._studies = study_steps(plan)
        self._later = {task.cell.key for study in self._studies for step in study.steps[1:] for task in step}
        self._keys = {task.cell.key for task in plan.tasks}
        self._roles = list(dict.fromkeys(task.role for task in plan.tasks))
        self._urgent = _with_needs(plan, {task.cell.key for task in plan.tasks if _gives_verdicts(task)})
        self._named: set[str] = set()

    def next_tasks(self, evidence: Mapping[str, Evidence]) -> Sequence[Task]:
        """Cells that need nothing of one another; none where nothing more is wanted.

        Args:
            evidence: By key, the evidence of the cells named before.
        """
        tasks = self._of_next_wave(evidence) if self._cost is None else self._least_first(evidence)
        self._named |= {task.cell.key for task in tasks}
        return tasks

    def _of_next_wave(self, evidence: Mapping[str, Evidence]) -> Sequence[Task]:
        """What every study of a wave begins with, then further steps, one study after another."""
        for wave in self._plan.waves():
            if first := [task for task in wave if task.cell.key not in self._later | self._named]:
                return first
            for study in self._studies:
                if step := [task for task in self._next_step(study, evidence) if task.wave == wave[0].wave]:
                    return step
        return ()

    def _least_first(self, evidence: Mapping[str, Evidence]) -> Sequence[Task]:
        """One cell, or one step of the study whose interval is widest once every study has begun."""
        ready = [
            task
            for task in self._plan.tasks
            if task.cell.key not in self._later | self._named and task.needs & self._keys <= evidence.keys()
        ]
        if ready:
            return [min(ready, key=self._place)]
        steps = [(study, step) for study in self._studies if (step := self._next_step(study, evidence))]
        return max(steps, key=lambda item: self._reach(item[0], evidence))[1] if steps else ()

    def _place(self, task: Task) -> tuple[int, float]:
        """What the first verdicts rest on, model after model; then all else by cost, as it is much and dear."""
        if task.cell.key in self._urgent:
            return 0, float(self._roles.index(task.role))
        return 1, self._cost(task) if self._cost else 0.0

    def _next_step(self, study: StudySteps, evidence: Mapping[str, Evidence]) -> Sequence[Task]:
        """The cells of the step that a study wants next; none where it wants none, or not yet."""
        results = RunResults(self._plan, evidence)
        done = steps_done(results, study)
        if done in (0, len(study.steps)):
            return ()
        missing = [task for task in study.steps[done] if task.cell.key not in self._named]
        if not missing or (self._plan.stop != "all" and ending(results, study, self._config) != "unfinished"):
            return ()
        return missing

    def _reach(self, study: StudySteps, evidence: Mapping[str, Evidence]) -> float:
        """How far the widest of the intervals that the checks read of a study reaches; infinite without any."""
        read = checked_readings(RunResults(self._plan, evidence), study.study, study.role, self._config)
        return max((reading.reach for reading in read), default=float("inf"))


def _gives_verdicts(task: Task) -> bool:
    topic = topic_of(task.cell.study)
    return topic is not None and topic.priority < VERDICT_PRIORITY


def _with_needs(plan: AuditPlan, keys: set[str]) -> frozenset[str]:
    """Some cells of a plan, and all that they read."""
    for task in sorted(plan.tasks, key=lambda task: -task.wave):
        if task.cell.key in keys:
            keys = keys | task.needs
    return frozenset(keys)
