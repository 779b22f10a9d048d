"""How attacks by decisions run: from a found start, image by image, on those that have one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from audit.adversarial.foolbox_adapter import Goal, check_range, run_foolbox
from audit.adversarial.result import unfit_norm
from audit.core.errors import NotApplicable
from audit.core.seeding import Generators
from audit.core.threat import ThreatModel
from audit.core.types import Batch, Images
from audit.models.under_test import ModelUnderTest

TRIES, BISECTIONS = 50, 10
"""Draws of a starting point an image, and halvings of the way from it to the clean image."""

MAX_START_QUERIES = TRIES + BISECTIONS + 6
"""Forwards an image that finding a start and settling the outcome cost at most."""


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
    """Proposals of a foolbox attack that needs a misclassified image to begin with.

    Each example runs alone, because in foolbox the examples of a batch share draws, norms or step sizes. An example for
    which no start was found, or which is misclassified as it is, comes back clean.

    Args:
        attacks: By norm, foolbox's name of the attack, or what makes its class of foolbox.
        model: The model under attack.
        batch: N examples: images float32 (N, C, H, W) in [0, 1], labels, and which predictions count as misclassified.
        threat: The norm and eps of the ball.
        generators: One random generator an example.
        hints: Images that may be misclassified, tried first as starts.
        goals: What the attack can seek.
        arguments: foolbox's own.

    Returns:
        Proposals, float32 (N, C, H, W).

    Raises:
        NotApplicable: For a norm or a goal the attack does not have.
        DataError: For images outside [0, 1].
    """
    if threat.norm not in attacks:
        raise NotApplicable(unfit_norm(list(attacks), threat.norm))
    check_range(batch.images)
    starts, has_start = starting_points(model, batch, generators.fork(0), hints=hints)
    proposals = model.check_images(batch.images).clone()
    index = (has_start & (starts != proposals).flatten(1).any(1)).nonzero().flatten()
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


def starting_points(
    model: ModelUnderTest,
    batch: Batch,
    generators: Generators,
    *,
    hints: Images | None = None,
    tries: int = TRIES,
    bisections: int = BISECTIONS,
) -> tuple[Images, Tensor]:
    """A misclassified image for each example, drawn from its own generator and bisected towards the clean image.

    Draws alternate between uniform noise and coarse patches of it, which reach more classes. An example that is
    misclassified as it is starts, and ends, there.

    Args:
        model: The model under attack.
        batch: N examples: images float32 (N, C, H, W) in [0, 1], labels, and which predictions count as misclassified.
        generators: One random generator an example.
        hints: Images tried before any draw, as the batch's.
        tries: Draws at most.
        bisections: Halvings of the way to the clean image.

    Returns:
        The images, and whether one was found, bool (N,).
    """
    origin = model.check_images(batch.images)
    goal = batch.target_mask(len(model.classes)).to(model.device)
    draws = Generators(generators.keys.to(model.device))
    points, has_start = origin.clone(), _broken(model, origin, goal)
    if hints is not None:
        adversarial = _broken(model, hints, goal) & ~has_start
        points[adversarial], has_start = hints[adversarial], has_start | adversarial
    for turn in range(tries):
        pending = (~has_start).nonzero().flatten()
        if len(pending) == 0:
            break
        candidates = _noise(draws.select(pending).fork(turn), origin.shape, coarse=turn % 2 == 1)
        adversarial = _broken(model, candidates, goal[pending])
        points[pending[adversarial]], has_start[pending[adversarial]] = candidates[adversarial], True
    return _nearer(model, origin, points, goal, bisections), has_start


def _nearer(model: ModelUnderTest, origin: Images, points: Images, goal: Tensor, bisections: int) -> Images:
    """The broken end of a bisection between each image and its point."""
    low, high = (torch.full((len(origin), 1, 1, 1), end, device=origin.device) for end in (0.0, 1.0))
    for _ in range(bisections):
        middle = (low + high) / 2
        broken = _broken(model, origin.lerp(points, middle), goal).view(-1, 1, 1, 1)
        low, high = torch.where(broken, low, middle), torch.where(broken, middle, high)
    return torch.where(high < 1, origin.lerp(points, high), points)


def _noise(generators: Generators, shape: torch.Size, *, coarse: bool) -> Images:
    channels, height, width = shape[1:]
    if not coarse:
        return generators.uniform(channels, height, width)
    patches = generators.uniform(channels, 4, 4)
    return torch.nn.functional.interpolate(patches, (height, width), mode="nearest")


def _broken(model: ModelUnderTest, images: Images, goal: Tensor) -> Tensor:
    return goal.gather(1, model.predictions(images)[:, None])[:, 0]
