"""What attacks share: which examples can be attacked, the class a gradient aims at, and the types of settings."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, TypeAlias

import torch
from pydantic import Field
from torch import Tensor

from audit.adversarial.search_state import SearchState
from audit.core.errors import DataError
from audit.core.types import Batch
from audit.models.losses import one_hot_goal
from audit.models.under_test import ModelUnderTest

PositiveInt = Annotated[int, Field(ge=1)]
NonNegativeInt = Annotated[int, Field(ge=0)]
PositiveFloat = Annotated[float, Field(gt=0)]

TargetFn: TypeAlias = Callable[[SearchState], Tensor]
"""What a loss is given beside the logits."""


def any_goal_class(slots: SearchState) -> Tensor:
    """Any class of the goal will do, bool (S, classes).

    Args:
        slots: The examples in work.
    """
    return slots.goal


def single_target(slots: SearchState) -> Tensor:
    """The class in the state's "target", int64 (S,), as a targeted loss takes it.

    Args:
        slots: The examples in work.
    """
    return one_hot_goal(slots.state["target"], slots.goal)


def ranked_targets(model: ModelUnderTest, batch: Batch, count: int) -> Tensor:
    """The likeliest classes of each goal, on the model's device. An example whose goal holds fewer starts again from
    its first: another attempt at the same class.

    Args:
        model: The model under attack.
        batch: N examples: images float32 (N, C, H, W) in [0, 1], labels, and which predictions count as misclassified.
        count: Classes at most.

    Returns:
        int64 (N, at most count).
    """
    goal = batch.target_mask(len(model.classes)).to(model.device)
    order = model.logits(batch.images).masked_fill(~goal, -torch.inf).argsort(dim=1, descending=True, stable=True)
    sizes = goal.sum(1)
    width = min(count, int(sizes.max())) if len(batch) else 1
    column = torch.arange(max(width, 1), device=model.device) % sizes.clamp(min=1)[:, None]
    return order.gather(1, column)


def check_examples(model: ModelUnderTest, batch: Batch) -> None:
    """Refuse examples that cannot be attacked.

    Args:
        model: The model under attack.
        batch: N examples: images float32 (N, C, H, W) in [0, 1], labels, and which predictions count as misclassified.

    Raises:
        DataError: For no image, images outside [0, 1], labels out of range, or a goal that contains the label.
    """
    classes = len(model.classes)
    model.check_shape(batch.images)
    if len(batch) == 0:
        raise DataError("There is no image to attack: the batch is empty. Give at least one example.")
    if not bool(((batch.images >= 0) & (batch.images <= 1)).all()):
        raise DataError("Images outside [0, 1] were given to an attack: divide 8-bit images by 255 first.")
    if bool(((batch.labels < 0) | (batch.labels >= classes)).any()):
        raise DataError(f"Labels must be between 0 and {classes - 1}, as the model has {classes} classes.")
    goal = batch.target_mask(classes)
    if goal.shape != (len(batch), classes):
        raise DataError(f"The target mask has shape {tuple(goal.shape)}; ({len(batch)}, {classes}) was expected.")
    if bool(goal.gather(1, batch.labels[:, None]).any()):
        raise DataError("A target equals the image's own label: name another class, or leave that image out.")
