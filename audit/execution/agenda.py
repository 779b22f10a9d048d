"""The order in which the cells of a plan are computed, and which of them are wanted at all."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from graphlib import TopologicalSorter
from itertools import pairwise
from typing import Literal

from audit.config import RunConfig
from audit.core.evidence import Evidence
from audit.core.topic import topic_of
from audit.execution.ready_cells import ReadyCells
from audit.planning.plan import FIRST_STUDIES, MODEL_STUDIES, AuditPlan, Task
from audit.planning.steps import StudySteps, study_steps
from audit.results.run_results import RunResults
from audit.results.stopping import checked_readings, ending

VERDICT_PRIORITY = 40
"""Topics of a lower `Topic.priority` than this give the findings that a report begins with."""

MANY_WORKERS = 8
"""From so many on the driver, which needs some milliseconds for each cell, is what short cells wait for. They are then
mixed with the long ones: one worker computes the shortest, and a study's first images come before its last."""
SPREAD = 0.25
"""Of the time that is left beside the longest chain of cells, by how much the last images of a study come later."""

CellOrder = Literal["waves", "least first", "longest first"]
"""How a run goes through its cells: one wave after another, for one that ends by itself in one process; first what each
part needs at least, for one whose time may end; or first what the longest chain of cells begins with, for several
workers, so that none is left with it at the end. No answer depends on it."""


class Agenda:
    """Names the next cell to compute, each once.

    A cell is ready when the evidence of its inputs is there. A later step of a sequential study is ready when the steps
    before it are there and the study's rule still wants images; that depends on the evidence that its topic declares
    (`Topic.stopping_reads`) alone, so on no order. Under the rule "all" every step is wanted.
    """

    def __init__(
        self,
        plan: AuditPlan,
        config: RunConfig,
        order: CellOrder = "waves",
        cost: Callable[[Task], float] = lambda task: 0.0,
        workers: int = 1,
    ) -> None:
        """Nothing is named yet.

        Args:
            plan: The plan.
            config: The configuration of the run, whose criteria say when a study is decided.
            order: In which order ready cells are named.
            cost: What a cell costs, in any unit; infinite where that is not known. Waves do not ask, and for several
                workers it is not asked before the first cell is named where that is plain.
            workers: How many there are.
        """
        self._plan, self._config, self._order, self._cost = plan, config, order, cost
        self._workers, self._studies = workers, study_steps(plan)
        self._place = {task.cell.key: place for place, task in enumerate(plan.tasks)}
        later = {t.cell.key: n for n, s in enumerate(self._studies) for step in s.steps[1:] for t in step}
        self._study_of = later
        self._waiting: dict[str, int] = {}
        self._dependents: defaultdict[str, list[Task]] = defaultdict(list)
        self._ready = ReadyCells()
        self._unranked: list[Task] = []
        self._tasks = {task.cell.key: task for task in plan.tasks}
        self._opened = [1] * len(self._studies)
        self._firsts_left = Counter(task.wave for task in plan.tasks if task.cell.key not in later)
        for task in plan.tasks:
            needs = task.needs & self._tasks.keys()
            held = task.cell.key in later and not (plan.stop == "all" and order != "least first")
            self._waiting[task.cell.key] = len(needs) + held
            for key in needs:
                self._dependents[key].append(task)
        for task in plan.tasks:
            if not self._waiting[task.cell.key]:
                self._push(task)

    def next_task(
        self, evidence: Mapping[str, Evidence], finished: Sequence[Task] = (), *, shortest: bool = False
    ) -> Task | None:
        """A cell all of whose needs are there; None where none is ready before another cell is done.

        Args:
            evidence: By key, the evidence of the cells done so far.
            finished: Cells whose evidence is about to be there: the one named is then that which comes first whatever
                it says, None where that cannot be told.
            shortest: Whether to name the one that would come last, where the longest come first.
        """
        if finished and self._order != "longest first":
            return None
        if self._order == "least first":
            if not self._ready:
                self._open_widest(evidence)
        else:
            for number, study in enumerate(self._studies):
                if self._could_come_first(number, study):
                    self._open_next_step(number, evidence)
        if self._unranked:
            if not finished and (maker := self._plain_first()):
                return maker
            self._rank_all()
        last = shortest and self._order == "longest first"
        if not self._ready or (finished and not last and self._ready.first_rank > self._first_after(finished)):
            return None
        return self._tasks[self._ready.take(last=last)]

    def _first_after(self, finished: Sequence[Task]) -> tuple[float, ...]:
        """The least rank of the cells that the evidence of others may make ready."""
        opened = zip(self._studies, self._opened, strict=True)
        steps = (
            task for study, number in opened if number for step in study.steps[number : number + 1] for task in step
        )
        dependents = (task for done in finished for task in self._dependents[done.cell.key])
        return min((self._rank(task) for task in (*dependents, *steps)), default=(math.inf,))

    def done(self, task: Task) -> None:
        """Take note that the evidence of a cell is there, whatever it says.

        Args:
            task: A cell that was named.
        """
        if task.cell.key not in self._study_of:
            self._firsts_left[task.wave] -= 1
        for dependent in self._dependents[task.cell.key]:
            self._released(dependent)

    def _released(self, task: Task) -> None:
        self._waiting[task.cell.key] -= 1
        if not self._waiting[task.cell.key]:
            self._push(task)

    def _push(self, task: Task) -> None:
        if self._order == "longest first" and "_chains" not in self.__dict__:
            self._unranked.append(task)
        else:
            self._ready.add(task.cell.key, self._rank(task))

    def _rank_all(self) -> None:
        unranked, self._unranked = self._unranked, []
        for task in unranked:
            self._ready.add(task.cell.key, self._rank(task))

    def _plain_first(self) -> Task | None:
        """The one model that is to be made, where nothing of another is ready: it begins while costs are asked for."""
        makers = [task for task in self._unranked if task.cell.study in MODEL_STUDIES]
        if len(makers) != 1 or any(task.cell.study in FIRST_STUDIES for task in self._unranked):
            return None
        self._unranked.remove(makers[0])
        return makers[0]

    def _rank(self, task: Task) -> tuple[float, ...]:
        """What is named first has the least."""
        key = task.cell.key
        if self._order == "waves":
            return task.wave, key in self._study_of, self._study_of.get(key, 0), task.examples.start, self._place[key]
        if self._order == "longest first":
            # Without clean images there is nothing to report of a run that is stopped early.
            later = self._spread * task.examples.start / max(1, self._images[task.cell.study])
            return task.cell.study not in FIRST_STUDIES, later - self._chains[key], self._place[key]
        if key in self._study_of:
            return 2, 0, self._place[key]
        if key in self._urgent:
            return 0, self._roles[task.role], self._place[key]
        return 1, self._cost(task), self._place[key]

    @cached_property
    def _spread(self) -> float:
        """How much later the last images of a study come than its first: equal chains would all end at once, in cells
        that are often the shortest."""
        if self._workers < MANY_WORKERS:
            return 0.0
        return SPREAD * max(0.0, sum(self._costs.values()) / self._workers - max(self._chains.values(), default=0.0))

    @cached_property
    def _images(self) -> Mapping[str, int]:
        """By study, where the last of its images end."""
        last: defaultdict[str, int] = defaultdict(int)
        for task in self._plan.tasks:
            last[task.cell.study] = max(last[task.cell.study], task.examples.stop)
        return last

    @cached_property
    def _costs(self) -> Mapping[str, float]:
        """What each cell costs; unknown costs count as the largest."""
        costs = {task.cell.key: self._cost(task) for task in self._plan.tasks}
        largest = max((cost for cost in costs.values() if math.isfinite(cost)), default=1.0)
        return {key: min(cost, largest) for key, cost in costs.items()}

    @cached_property
    def _chains(self) -> Mapping[str, float]:
        """By cell, what it and the longest chain of cells that wait for it cost."""
        costs = self._costs
        waiting = {key: [task.cell.key for task in self._dependents[key]] for key in costs}
        for number, study in enumerate(self._studies if self._plan.stop != "all" else ()):
            for step, (done, following) in enumerate(pairwise(study.steps)):
                turn = f"turn {number} {step}"  # of the following step, which costs nothing itself
                waiting[turn] = [task.cell.key for task in following]
                for task in done:
                    waiting[task.cell.key].append(turn)
        after: dict[str, float] = {}
        for key in TopologicalSorter(waiting).static_order():
            behind = max((after[other] for other in waiting[key]), default=0.0)
            after[key] = costs.get(key, 0.0) + behind
        return after

    @cached_property
    def _urgent(self) -> frozenset[str]:
        return _with_needs(self._plan, {task.cell.key for task in self._plan.tasks if _gives_verdicts(task)})

    @cached_property
    def _roles(self) -> Mapping[str, int]:
        return {role: n for n, role in enumerate(dict.fromkeys(task.role for task in self._plan.tasks))}

    def _could_come_first(self, number: int, study: StudySteps) -> bool:
        """Whether to ask a study for a further step now: in waves its turn comes after what the wave begins with."""
        if self._plan.stop == "all" or not 0 < self._opened[number] < len(study.steps):
            return False
        return self._order != "waves" or not self._ready or self._ready.first_rank[:2] > (study.tasks[0].wave, 0)

    def _open_next_step(self, number: int, evidence: Mapping[str, Evidence]) -> None:
        """Release the cells of the step that a study wants next, where its rule can be asked and wants one."""
        study, opened = self._studies[number], self._opened[number]
        if not self._can_ask(number, evidence):
            return
        if ending(RunResults(self._plan, evidence), study, self._config) != "unfinished":
            self._opened[number] = 0
            return
        self._opened[number] += 1
        for task in study.steps[opened]:
            self._released(task)

    def _can_ask(self, number: int, evidence: Mapping[str, Evidence]) -> bool:
        """Whether all is there that a study's rule reads: its steps so far, and what its topic says besides."""
        study, opened = self._studies[number], self._opened[number]
        if not 0 < opened < len(study.steps) or any(t.cell.key not in evidence for t in study.steps[opened - 1]):
            return False
        topic = topic_of(study.study)
        others = topic.stopping_reads.get(study.study) if topic else None
        if others is None:
            return not any(left for wave, left in self._firsts_left.items() if wave <= study.tasks[0].wave)
        read = (task for task in self._plan.tasks if task.cell.study in others and task.role == study.role)
        return all(task.cell.key in evidence for task in read)

    def _open_widest(self, evidence: Mapping[str, Evidence]) -> None:
        """A step of the study whose interval is widest; of the next widest where that wants none, and so on."""
        askable = [number for number in range(len(self._studies)) if self._can_ask(number, evidence)]
        for number in sorted(askable, key=lambda number: -self._reach(self._studies[number], evidence)):
            self._open_next_step(number, evidence)
            if self._ready:
                return

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
