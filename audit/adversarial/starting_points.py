"""Where attacks by decisions begin: an image on the wrong side, brought close to the boundary."""

from __future__ import annotations

import torch
from torch import Tensor

from audit.core.seeding import Generators
from audit.core.types import Batch, Images
from audit.models.under_test import ModelUnderTest


def starting_points(
    model: ModelUnderTest,
    batch: Batch,
    generators: Generators,
    *,
    hints: Images | None = None,
    tries: int = 50,
    bisections: int = 10,
) -> tuple[Images, Tensor]:
    """A broken image for each example, drawn from its own generator, and whether one was found, bool (N,).

    `hints` are tried before any draw. Draws alternate between uniform noise and coarse patches of it, which reach more
    classes. What is found is bisected towards the clean image; an example broken as it is starts, and ends, there.
    """
    origin = model.check_images(batch.images)
    goal = batch.violations(len(model.classes)).to(model.device)
    own = Generators(generators.keys.to(model.device))
    points, found = origin.clone(), _broken(model, origin, goal)
    if hints is not None:
        hit = _broken(model, hints, goal) & ~found
        points[hit], found = hints[hit], found | hit
    for turn in range(tries):
        missing = (~found).nonzero().flatten()
        if len(missing) == 0:
            break
        drawn = _noise(own.select(missing).fork(turn), origin.shape, coarse=turn % 2 == 1)
        hit = _broken(model, drawn, goal[missing])
        points[missing[hit]], found[missing[hit]] = drawn[hit], True
    return _nearer(model, origin, points, goal, bisections), found


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
