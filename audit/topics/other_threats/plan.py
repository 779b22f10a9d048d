"""The cells of threats other than a norm ball."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

from audit.core.registry import find
from audit.core.types import PassCount
from audit.planning.builder import ModelRef, PlanBuilder
from audit.planning.experience import Experience
from audit.planning.parts import part_input, part_inputs
from audit.planning.plan import Slice, Task
from audit.planning.run_identity import RunIdentity
from audit.topics.other_threats import OtherThreatsConfig
from audit.topics.other_threats.facts import (
    BY_IMAGE,
    MIN_OTHER_THREAT_IMAGES,
    PART_OF_THREATS,
    TRANSFER_STEPS,
    OtherThreatsSettings,
)

MAX_TARGETS = 10
"""Most target classes that a patch is tried for."""


def plan(builder: PlanBuilder, model: ModelRef) -> None:
    """Poses, one perturbation and one patch for all images, transfer: each in one cell, whose halves are disjoint.

    Where it would take more images at once than the configuration wants in a cell, a threat to each image by itself is
    tried on the images in parts, and a patch is made in parts towards some of the classes each; the cell joins them.

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

    def add(
        name: str, attack: str, settings: Mapping[str, Any], inputs: Mapping[str, Task] | None = None, **threat: Any
    ) -> None:
        method, inputs = find("attack", attack), inputs or {}
        settings = {**settings, "attack": method.settings()} if attack == name else settings
        parts = {
            part_input(first): builder.add(
                PART_OF_THREATS,
                name,
                model,
                images,
                settings={**settings, **of_part},
                version=method.full_version,
                inputs=inputs,
                **threat,
            )
            for first, images, of_part in _parts(builder, name, chunk, OtherThreatsSettings(**settings))
        }
        builder.add(
            "other-threats",
            name,
            model,
            chunk,
            settings=settings,
            version=method.full_version,
            inputs={**inputs, **parts},
            **threat,
        )

    add("spatial", "spatial", {"rotation": config.rotation, "translation": shift})
    add("universal", "universal", {}, threat=builder.threat)
    for targets in (0, MAX_TARGETS):
        add("patch", "patch", {"area": config.patch_area, "targets": targets})
    add("transfer", "mi-fgsm", {}, threat=builder.threat, inputs={"surrogate": surrogates[0]})


def _parts(
    builder: PlanBuilder, name: str, images: Slice, settings: OtherThreatsSettings
) -> Iterator[tuple[int, Slice, dict[str, Any]]]:
    """The parts of a threat, where it takes more images at once than a cell may hold.

    Yields:
        The first image or class of the part, its images, and its settings beside those of the whole.
    """
    most = builder.config.chunk
    if name in BY_IMAGE and len(images) > max(most, MIN_OTHER_THREAT_IMAGES):
        for part in builder.chunks(len(images), max(2, most - most % 2)):  # even, as every other image is scored
            yield part.start, part, {}
    if name == "patch":
        targets, step = _targets(settings, builder.identity), _images_a_step(settings, len(images))
        together = max(1, most // step)
        for first in (
            range(0, targets, together) if together < targets and len(images) >= MIN_OTHER_THREAT_IMAGES else ()
        ):
            yield first, images, {"classes": [first, min(first + together, targets)]}


def _targets(settings: OtherThreatsSettings, identity: RunIdentity) -> int:
    """Classes that a patch is made towards; 0 for one towards any other than the right one."""
    return min(settings.targets, len(identity.classes))


def _images_a_step(settings: OtherThreatsSettings, images: int) -> int:
    """Images that a step of a change for all of them follows: it is made on half of them."""
    return int(min(settings.attack["images_a_step"], math.ceil(images / 2)))


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
    joins = bool(part_inputs(task.cell))
    if task.cell.method in BY_IMAGE and joins:
        return PassCount(0, 0)
    if task.cell.method == "spatial":
        passes = find("attack", "spatial").max_passes(settings.attack, identity.shape)
        return None if passes is None else passes + PassCount(AROUND_A_THREAT, 0)
    if task.cell.method == "transfer":
        return PassCount(TRANSFER_STEPS + AROUND_A_THREAT, TRANSFER_STEPS)
    first, stop = settings.classes or (0, _targets(settings, identity))
    times = 0 if joins else max(1, stop - first)
    ascent = math.ceil(times * settings.attack["steps"] * _images_a_step(settings, images) / images)
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
