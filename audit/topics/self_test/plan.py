"""The cell of problems with known answers."""

from __future__ import annotations

from audit.planning.builder import ModelRef, PlanBuilder
from audit.planning.plan import Slice
from audit.topics.self_test import SelfTestConfig


def plan_run(builder: PlanBuilder) -> None:
    """One cell a run: it needs no model.

    Args:
        builder: The plan so far.
    """
    if builder.config.table(SelfTestConfig).enabled:
        builder.add("self-test", "oracles", ModelRef("standard", ""), Slice("test", 0, 0))
