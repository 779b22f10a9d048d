"""Which steps of a study that may stop early are likely to be wanted."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from audit.config import RunConfig, StopRule
from audit.core.statistics import Interval
from audit.core.topic import topic_of
from audit.planning.experience import Experience
from audit.planning.plan import AuditPlan
from audit.planning.steps import StudySteps, study_steps


@dataclass(frozen=True)
class ForeseenReading:
    """The interval that a check would hold against a threshold after some images, were they to fare as others did.

    Attributes:
        interval: The interval, valid at that look.
        threshold: The threshold, in its unit.
    """

    interval: Interval
    threshold: float

    def ends(self, rule: StopRule) -> bool:
        """Whether the rule would take no more images.

        Args:
            rule: That of the plan.
        """
        if rule == "all":
            return False
        decided = not self.interval.low < self.threshold <= self.interval.high
        reach = max(self.interval.high - self.interval.estimate, self.interval.estimate - self.interval.low)
        return decided and (rule == "decides" or reach <= rule)


def unlikely_cells(plan: AuditPlan, config: RunConfig, experience: Experience) -> frozenset[str]:
    """The keys of the cells of steps that are likely not to be wanted.

    A topic foresees with `foreseen(task, config, experience)` of its `plan.py`; every step of one that does
    not is taken to be wanted.

    Args:
        plan: The plan.
        config: The configuration of the run, which holds the thresholds.
        experience: What is known of the models.
    """
    return frozenset(key for steps in study_steps(plan) for key in _after_the_end(steps, plan.stop, config, experience))


def _after_the_end(steps: StudySteps, rule: StopRule, config: RunConfig, experience: Experience) -> Iterator[str]:
    topic = topic_of(steps.study)
    foreseen = topic.function("plan", "foreseen") if topic else None
    if foreseen is None:
        return
    ended = False
    for step in steps.steps:
        if ended:
            yield from (task.cell.key for task in step)
            continue
        reading: ForeseenReading = foreseen(step[-1], config, experience)
        ended = reading.ends(rule)
