"""How attacks by decisions run: from a found start, image by image, on those that have one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from audit.adversarial.foolbox_adapter import Goal, check_range, run_foolbox
from audit.adversarial.starting_points import starting_points
from audit.core.errors import NotApplicable
from audit.core.seeding import Generators
from audit.core.threat import ThreatModel
from audit.core.types import Batch, Images
from audit.models.under_test import ModelUnderTest


def run_from_starts(
    attacks: Mapping[str, str | Callable[[Any], Any]],
    model: ModelUnderTest,
    batch: Batch,
    threat: ThreatModel,
    generators: Generators,
    *,
    hints: Images | None = None,
    goals: tuple[Goal, ...] = ("untargeted", "targeted", "mask"),
    **arguments: Any,
) -> Images:
    """Proposals of a foolbox attack that needs a misclassified image to begin with; `hints` may be such images.

    Each example runs alone, because in foolbox the examples of a batch share draws, norms or step sizes. An example
    for which no start was found, or which is broken as it is, comes back clean.
    """
    if threat.norm not in attacks:
        raise NotApplicable(f"This attack exists for {', '.join(attacks)}, not for {threat.norm}.")
    check_range(batch.images)
    starts, found = starting_points(model, batch, generators.fork(0), hints=hints)
    proposals = model.check_images(batch.images).clone()
    index = (found & (starts != proposals).flatten(1).any(1)).nonzero().flatten()
    if len(index) == 0:
        return proposals
    proposals[index] = run_foolbox(
        attacks,
        model,
        batch.select(index.to(batch.images.device)),
        threat,
        generators.fork(1).select(index.to(generators.keys.device)),
        goals=goals,
        starts=starts[index],
        one_by_one=True,
        **arguments,
    )
    return proposals
