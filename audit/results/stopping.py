"""Where a study that takes images in steps stands: whether its rule wants more, and which interval holds of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from audit.config import RunConfig
from audit.core.looks import Look, mean_at, share_at
from audit.core.note import NO_NOTE, Note, note
from audit.core.statistics import Interval
from audit.core.topic import topic_of
from audit.planning.steps import StudySteps
from audit.results.check_result import at_least, at_most
from audit.results.run_results import RunResults, TaskResult

Ending = Literal["decided", "precise", "all", "unfinished"]
"""Why a study took no more images: its checks were decided, they were and its interval was as narrow as asked, all
images asked for were taken, or the run was stopped before any of these."""


UNFINISHED = "stop_unfinished"
"""The key of the note of a study that was cut before its rule was met."""


@dataclass(frozen=True)
class Reading:
    """An interval that a check holds against a threshold.

    Attributes:
        interval: The interval, valid at this look.
        threshold: The threshold, in its unit.
        least: Whether the lower bound must reach the threshold; else the upper bound must stay within it.
    """

    interval: Interval
    threshold: float
    least: bool = True

    @property
    def decided(self) -> bool:
        """Whether the bounds lie on one side of the threshold."""
        judge = at_least if self.least else at_most
        return judge(self.interval, self.threshold) != "inconclusive"

    @property
    def reach(self) -> float:
        """How far the interval reaches from its estimate, at most."""
        return max(self.interval.high - self.interval.estimate, self.interval.estimate - self.interval.low)


def checked_readings(results: RunResults, study: str, role: str, config: RunConfig) -> tuple[Reading, ...]:
    """What the checks read of a sequential study, as its topic declares.

    Args:
        results: The run so far.
        study: Name of the study.
        role: Role of the model.
        config: The configuration of the run.
    """
    topic = topic_of(study)
    declared = topic.function("stopping", "readings") if topic else None
    return tuple(declared(results, role, config)) if declared else ()


def steps_done(results: RunResults, steps: StudySteps) -> int:
    """How many steps, from the first, have evidence in all their cells.

    Args:
        results: The run so far.
        steps: The study.
    """
    for number, step in enumerate(steps.steps):
        if any(task.cell.key not in results.evidence for task in step):
            return number
    return len(steps.steps)


def ending(results: RunResults, steps: StudySteps, config: RunConfig) -> Ending:
    """Whether the rule of the plan wants no more images of a study, and why: a function of its whole steps alone.

    Args:
        results: The run so far.
        steps: The study.
        config: The configuration of the run, which holds the thresholds.
    """
    done = steps_done(results, steps)
    if done == len(steps.steps):
        return "all"
    rule = results.plan.stop
    if done == 0 or rule == "all":
        return "unfinished"
    read = checked_readings(_after(results, steps, done), steps.study, steps.role, config)
    if not read:
        return "unfinished"
    if not all(reading.decided for reading in read):
        return "unfinished"
    if rule == "decides":
        return "decided"
    return "precise" if all(reading.reach <= rule for reading in read) else "unfinished"


def unneeded_tasks(results: RunResults, config: RunConfig) -> frozenset[str]:
    """The keys of the cells that their studies' rule did not want.

    Args:
        results: The run so far, without evidence of steps after the one that a study stopped at.
        config: The configuration of the run.
    """
    return frozenset(
        task.cell.key
        for steps in results.steps
        if ending(results, steps, config) in ("decided", "precise")
        for task in steps.tasks
        if task.cell.key not in results.evidence
    )


def images_taken(results: RunResults, steps: StudySteps) -> int:
    """How many images all cells of the steps so far have in common.

    Args:
        results: The run so far.
        steps: The study.
    """
    done = steps_done(results, steps)
    return max((task.examples.stop for step in steps.steps[:done] for task in step), default=0)


def stopping_note(results: RunResults, steps: StudySteps, config: RunConfig) -> Note:
    """Which rule ended a study and at how many images; empty where it took what was asked for and looked once.

    Args:
        results: The run.
        steps: The study.
        config: The configuration of the run.
    """
    taken, planned, rule = images_taken(results, steps), steps.examples, results.plan.stop
    end = ending(results, steps, config)
    if end == "unfinished":
        return note(
            "stop_unfinished",
            "These are {images} of {planned} images, taken before the rule for stopping was met, so nothing passes on "
            "them yet; the same command goes on.",
            images=taken,
            planned=planned,
        )
    if rule == "all":
        return NO_NOTE
    if end == "decided":
        return note(
            "stop_decided",
            "Stopped after {images} of at most {planned} images, which decide it: the interval is a confidence "
            "sequence, which holds at whatever look one stops.",
            images=taken,
            planned=planned,
        )
    points = f"{100 * float(rule):.3g}" if rule != "decides" else ""
    if end == "precise":
        return note(
            "stop_precise",
            "Stopped after {images} of at most {planned} images, which decide it, once the interval reached no further "
            "than {points} points either way: it is a confidence sequence, which holds at whatever look one stops.",
            images=taken,
            planned=planned,
            points=points,
        )
    return note(
        "stop_last",
        "Took all {planned} images, as no look before was enough to stop at; the interval allows for those looks.",
        planned=planned,
    )


def look_at(results: RunResults, study: str, role: str) -> Look:
    """When the data of a study was looked at, which says the interval that holds of it.

    A study of one step, or of all the images that the rule "all" asks for, is looked at once.

    Args:
        results: The run.
        study: Name of the study.
        role: Role of the model.
    """
    for steps in results.steps:
        if (steps.study, steps.role) == (study, role):
            if steps_done(results, steps) < len(steps.steps):
                return "early"
            return "only" if results.plan.stop == "all" else "last"
    return "only"


def share_of_entries(results: RunResults, entries: Sequence[TaskResult], outcomes: ArrayLike) -> Interval:
    """The share of true values with the 95% interval that holds however the study of the entries was stopped.

    Args:
        results: The run.
        entries: Cells of one study and model, at least one.
        outcomes: Yes-or-no values of their examples (N,).
    """
    return share_at(_look_of(results, entries), outcomes)


def mean_of_entries(
    results: RunResults, entries: Sequence[TaskResult], values: ArrayLike, bounds: tuple[float, float]
) -> Interval:
    """The mean with the 95% interval that holds however the study of the entries was stopped.

    Args:
        results: The run.
        entries: Cells of one study and model, at least one.
        values: Finite numbers of their examples (N,), in audit order.
        bounds: The least and the largest value there can be.
    """
    return mean_at(_look_of(results, entries), np.asarray(values), bounds)


def _look_of(results: RunResults, entries: Sequence[TaskResult]) -> Look:
    return look_at(results, entries[0].task.cell.study, entries[0].task.role)


def _after(results: RunResults, steps: StudySteps, done: int) -> RunResults:
    """The run as it stood after so many steps of a study."""
    later = {task.cell.key for step in steps.steps[done:] for task in step}
    return replace(results, evidence={key: value for key, value in results.evidence.items() if key not in later})
