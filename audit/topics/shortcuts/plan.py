"""The cell that searches for shortcuts."""

from __future__ import annotations

from typing import Any

from audit.core.registry import find
from audit.planning.builder import ModelRef, PlanBuilder
from audit.topics.shortcuts import ShortcutsConfig

METHOD = "integrated-gradients"
SETTINGS: dict[str, Any] = {"method": {"steps": 16, "max_steps": 16}, "output": "logit", "baseline": "mean"}
"""The attribution by pixel in which shortcuts are searched: coarse, since a region is judged over many images."""


def plan(builder: PlanBuilder, model: ModelRef) -> None:
    """One cell over the first images of the audit order.

    Args:
        builder: The plan so far.
        model: The model.
    """
    if examples := builder.config.table(ShortcutsConfig).examples:
        method = find("attribution", METHOD)
        (chunk,) = builder.chunks(examples, examples)
        settings = SETTINGS | {"method": method.settings(SETTINGS["method"])}
        builder.add("shortcuts", method.name, model, chunk, settings=settings, version=method.full_version)
