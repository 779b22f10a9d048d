"""Interval bounds: an eps for each image below which no linf perturbation can break a small feed-forward net."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from audit.core.errors import NotApplicable
from audit.core.registry import metric
from audit.core.types import Batch
from audit.metrics.interval_layers import Box, layers_of, linear, through
from audit.models.under_test import ModelUnderTest

SLACK = 1e-4
"""Share of the largest logit that a margin must exceed: what float32 may add to the float64 bound."""


@metric(reference="arXiv:1810.12715", unit="pixel range", better="higher")
def interval_bounds(model: ModelUnderTest, batch: Batch, *, largest: float = 1.0, bisections: int = 14) -> Tensor:
    """The largest eps up to `largest` at which each image is proved unbroken, float64 (N,); 0 where none is.

    Boxes go through the net layer by layer in float64, the last dense layer joined with the differences of the
    logits (Gowal et al. 2018). A lower bound on the true distance, and a loose one on nets not trained for it.
    Raises NotApplicable for nets that are no chain of known layers.
    """
    if model.output_kind != "logits":
        raise NotApplicable("Interval bounds need a model whose outputs are logits.")
    layers = tuple(layers_of(model.net))
    images = model.check_images(batch.images)
    goal = batch.violations(len(model.classes)).to(model.device)
    kept = model.predictions(images)
    low = torch.zeros(len(images), dtype=torch.float64, device=model.device)
    high = torch.full_like(low, largest)
    for step in range(bisections + 1):
        eps = high if step == 0 else (low + high) / 2
        proved = proves(model, layers, images, eps, kept, goal)
        low, high = torch.where(proved, eps, low), torch.where(proved, high, eps)
    return low


def proves(
    model: ModelUnderTest, layers: Sequence[nn.Module], images: Tensor, eps: Tensor, kept: Tensor, goal: Tensor
) -> Tensor:
    """Whether within eps (N,) every class of the goal stays below the class `kept` (N,), bool (N,)."""
    exact, size = images.double(), eps.view(-1, 1, 1, 1)
    box = _normalised(model, Box((exact - size).clamp(0, 1), (exact + size).clamp(0, 1)))
    *body, last = layers
    for layer in body:
        box = through(layer, box)
    below = _margins(last, box, kept)
    scale = through(last, box)
    slack = SLACK * torch.maximum(scale.low.abs(), scale.high.abs()).amax(1, keepdim=True)
    safe = (below > slack) | ~goal
    return safe.all(1) & ~goal.gather(1, kept[:, None])[:, 0]


def _margins(last: nn.Module, box: Box, kept: Tensor) -> Tensor:
    """Lower bounds on logit[kept] - logit[j] for each class j, (N, classes)."""
    if not isinstance(last, nn.Linear):
        ends = through(last, box)
        return ends.low.gather(1, kept[:, None]) - ends.high
    weight = last.weight.double()
    difference = weight[kept][:, None] - weight[None]
    bias = weight.new_zeros(len(weight)) if last.bias is None else last.bias.double()
    centre, radius = (box.low + box.high) / 2, (box.high - box.low) / 2
    moved = torch.einsum("nkd,nd->nk", difference, centre) + bias[kept][:, None] - bias[None]
    return moved - torch.einsum("nkd,nd->nk", difference.abs(), radius)


def _normalised(model: ModelUnderTest, box: Box) -> Box:
    mean, std = model.module.mean.double(), model.module.std.double()
    return linear(lambda radius: radius / std, lambda centre: (centre - mean) / std, box)
