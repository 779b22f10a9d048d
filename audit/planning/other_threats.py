"""The cells of threats beside the ball, and of the surrogate that attacks are transferred from."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from audit.core.registry import find
from audit.planning.builder import ModelRef, PlanBuilder
from audit.planning.plan import Slice, Task
from audit.planning.run_identity import headline_eps

TAUGHT_ON = 4000
"""Images a surrogate is taught on, at most."""
EPOCHS = 8
TARGETS = 10
"""Classes towards which a patch is tried, at most."""


def plan_surrogate(draft: PlanBuilder, model: ModelRef) -> Task | None:
    """A surrogate taught on training images, or on half of those for further threats; None where none is wanted."""
    config, subject = draft.config.robustness, draft.subject
    if not config.further_examples and not draft.battery.wants_surrogate:
        return None
    elsewhere = subject.train_examples > 0
    images = min(config.further_examples or config.examples, subject.test_examples)
    part = Slice("train", 0, subject.train_examples) if elsewhere else Slice("test", 0, images)
    every = max(2, math.ceil(len(part) / TAUGHT_ON))
    settings = {"every": every, "epochs": EPOCHS, "elsewhere": elsewhere}
    return draft.add("surrogate", "imitation", model, part, settings=settings)


def plan_other_threats(draft: PlanBuilder, model: ModelRef, surrogate: Task | None) -> None:
    """Poses, one perturbation and one patch for all images, transfer: each in one piece, whose halves are disjoint."""
    config = draft.config.robustness
    if not config.further_examples or surrogate is None:
        return
    (part,) = draft.chunks(config.further_examples, config.further_examples)
    ball = {"norm": config.norm, "eps": headline_eps(draft.config, draft.subject)}
    shift = round(config.translation * min(draft.subject.shape[1:]))

    def add(name: str, attack: str, settings: Mapping[str, Any], **rest: Any) -> None:
        method = find("attack", attack)
        given = {**settings, "attack": method.settings()} if attack == name else settings
        draft.add("further-threats", name, model, part, settings=given, version=method.full_version, **rest)

    add("spatial", "spatial", {"rotation": config.rotation, "translation": shift})
    add("universal", "universal", {}, threat=ball)
    for targets in (0, TARGETS):
        add("patch", "patch", {"area": config.patch_area, "targets": targets})
    add("transfer", "mi-fgsm", {}, threat=ball, inputs={"surrogate": surrogate})
