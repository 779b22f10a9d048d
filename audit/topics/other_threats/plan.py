"""The cells of threats other than a norm ball."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from audit.core.registry import find
from audit.core.types import PassCount
from audit.planning.builder import ModelRef, PlanBuilder
from audit.planning.experience import Experience
from audit.planning.plan import Task
from audit.planning.run_identity import RunIdentity
from audit.topics.other_threats import OtherThreatsConfig
from audit.topics.other_threats.facts import TRANSFER_STEPS, OtherThreatsSettings

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


AROUND_A_THREAT = 8
"""Most forwards an image around one threat: whether the model is random, the clean prediction, the control's, the
verifier's, and where its gradient is taken."""
POSES_TO_BREAK = 0.2
"""The share of the poses that are tried of an image until one breaks it, as it usually is."""


def max_passes(task: Task, identity: RunIdentity) -> PassCount | None:
    """The attack on half or all of the images, and the judgement of the others.

    Args:
        task: A cell of this topic.
        identity: Identities and sizes of the data and the model.
    """
    settings, images = OtherThreatsSettings.of(task.cell), max(1, len(task.examples))
    if task.cell.method == "spatial":
        passes = find("attack", "spatial").max_passes(settings.attack, identity.shape)
        return None if passes is None else passes + PassCount(AROUND_A_THREAT, 0)
    if task.cell.method == "transfer":
        return PassCount(TRANSFER_STEPS + AROUND_A_THREAT, TRANSFER_STEPS)
    attack = settings.attack
    times = max(1, min(settings.targets, len(identity.classes)))
    made_on = math.ceil(images / 2)
    ascent = math.ceil(times * attack["steps"] * min(attack["images_a_step"], made_on) / images)
    return PassCount(ascent + times + AROUND_A_THREAT + 1, ascent)


def expected_passes(task: Task, identity: RunIdentity, experience: Experience) -> PassCount | None:
    """Of poses, those until one breaks the image; of the others the whole, for they are made on all images together.

    Args:
        task: A cell of this topic.
        identity: Identities and sizes of the data and the model.
        experience: What cells like it cost so far.
    """
    if (alike := experience.passes_like(task)) is not None:
        return alike
    most, images = max_passes(task, identity), len(task.examples)
    if most is None:
        return None
    share = POSES_TO_BREAK if task.cell.method == "spatial" else 1.0
    return PassCount(round(share * images * most.forwards), images * most.backwards)
