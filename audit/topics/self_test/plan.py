"""The cell of problems with known answers."""

from __future__ import annotations

from audit.core.types import PassCount
from audit.planning.builder import ModelRef, PlanBuilder
from audit.planning.plan import Slice, Task
from audit.planning.run_identity import RunIdentity
from audit.topics.self_test import SelfTestConfig


def plan_run(builder: PlanBuilder) -> None:
    """One cell a run: it needs no model.

    Args:
        builder: The plan so far.
    """
    if builder.config.table(SelfTestConfig).enabled:
        builder.add("self-test", "oracles", ModelRef("standard", ""), Slice("test", 0, 0))


def max_passes(task: Task, identity: RunIdentity) -> PassCount:
    """None of the model under test: the problems bring their own.

    Args:
        task: A cell of this topic.
        identity: Identities and sizes of the data and the model.
    """
    return PassCount(0, 0)
