"""What gradient attacks share: the norm-wise step, the class they aim at, the types of their settings."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, TypeAlias

import torch
from pydantic import Field
from torch import Tensor

from audit.adversarial.active_set import SearchState
from audit.core.threat import Norm, norms
from audit.core.types import Batch, Images
from audit.models.losses import one_hot_goal
from audit.models.under_test import ModelUnderTest

PositiveInt = Annotated[int, Field(ge=1)]
PositiveFloat = Annotated[float, Field(gt=0)]

TargetFn: TypeAlias = Callable[[SearchState], Tensor]
"""What a loss is given beside the logits."""

L1_SHARE = 0.01
"""Share of coordinates that one l1 step moves (Tramer and Boneh 2019, arXiv:1904.13000)."""


def steepest_ascent(norm: Norm, gradient: Images, images: Images) -> Images:
    """The perturbation of norm 1 along which the loss rises fastest without leaving the box.

    Coordinates already at 0 or 1 and pushed outwards are left out: spending an l2 or l1 budget on them is
    lost when the image is clamped. NaN gradients count as zero, and a zero gradient gives a zero step.
    """
    gradient = gradient.nan_to_num(0.0, 0.0, 0.0)
    if norm == "linf":
        return gradient.sign()
    outwards = ((gradient > 0) & (images >= 1)) | ((gradient < 0) & (images <= 0))
    free = gradient.masked_fill(outwards, 0.0)
    scaled = free / free.flatten(1).abs().amax(1).clamp(min=1e-38).view(-1, 1, 1, 1)
    if norm == "l2":
        return scaled / norms(scaled, "l2").clamp(min=1e-12).view(-1, 1, 1, 1)
    return _sparse(scaled)


def _sparse(gradient: Images) -> Images:
    flat = gradient.flatten(1)
    count = max(1, round(L1_SHARE * flat.shape[1]))
    top = flat.abs().topk(count, dim=1).indices
    signs = flat.gather(1, top).sign()
    moved = signs.abs().sum(1, keepdim=True).clamp(min=1)
    return torch.zeros_like(flat).scatter_(1, top, signs / moved).view_as(gradient)


def any_goal_class(slots: SearchState) -> Tensor:
    """Any class of the goal will do."""
    return slots.goal


def single_target(slots: SearchState) -> Tensor:
    """The class in the state's "target", int64 (N,)."""
    return one_hot_goal(slots.state["target"], slots.goal)


def ranked_targets(model: ModelUnderTest, batch: Batch, count: int) -> Tensor:
    """The likeliest `count` classes of each goal, int64 (N, at most count), on the model's device.

    An example whose goal holds fewer starts again from its first: another attempt at the same class.
    """
    goal = batch.violations(len(model.classes)).to(model.device)
    order = model.logits(batch.images).masked_fill(~goal, -torch.inf).argsort(dim=1, descending=True, stable=True)
    sizes = goal.sum(1)
    width = min(count, int(sizes.max())) if len(batch) else 1
    column = torch.arange(max(width, 1), device=model.device) % sizes.clamp(min=1)[:, None]
    return order.gather(1, column)
