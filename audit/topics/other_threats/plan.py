"""The cells of threats other than a norm ball."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from audit.core.registry import find
from audit.planning.builder import ModelRef, PlanBuilder
from audit.topics.other_threats import OtherThreatsConfig

MAX_TARGETS = 10
"""Most target classes that a patch is tried for."""


def plan(builder: PlanBuilder, model: ModelRef) -> None:
    """Poses, one perturbation and one patch for all images, transfer: each in one cell, whose halves are disjoint.

    Args:
        builder: The plan so far.
        model: The model.
    """
    config = builder.config.table(OtherThreatsConfig)
    surrogates = builder.planned("surrogate", model.role)
    if not config.examples or not surrogates:
        return
    (chunk,) = builder.chunks(config.examples, config.examples)
    shift = round(config.translation * min(builder.identity.shape[1:]))

    def add(name: str, attack: str, settings: Mapping[str, Any], **context: Any) -> None:
        method = find("attack", attack)
        all_settings = {**settings, "attack": method.settings()} if attack == name else settings
        builder.add("other-threats", name, model, chunk, settings=all_settings, version=method.full_version, **context)

    add("spatial", "spatial", {"rotation": config.rotation, "translation": shift})
    add("universal", "universal", {}, threat=builder.threat)
    for targets in (0, MAX_TARGETS):
        add("patch", "patch", {"area": config.patch_area, "targets": targets})
    add("transfer", "mi-fgsm", {}, threat=builder.threat, inputs={"surrogate": surrogates[0]})
