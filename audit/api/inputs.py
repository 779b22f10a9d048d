"""Arguments of the public functions: checked once, here, with a sentence for each way to be wrong."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from audit.core.errors import DataError, UsageError
from audit.core.seeding import content_ids
from audit.core.types import Batch, ClassMask, Images, Labels
from audit.models.under_test import ModelUnderTest

Targets = Tensor | None


def wrap(
    module: nn.Module,
    *,
    classes: Sequence[str] | int,
    input_shape: tuple[int, int, int],
    mean: float | Sequence[float] | None = None,
    std: float | Sequence[float] | None = None,
    device: torch.device | str = "auto",
) -> ModelUnderTest:
    """A model as the suite sees it; the module itself is copied and never changed.

    `classes` are names in output order, or their number; `input_shape` is (channels, height, width); `mean`
    and `std` are the normalisation the module expects of images in [0, 1]. Raises ModelError, UsageError.
    """
    names = [str(index) for index in range(classes)] if isinstance(classes, int) else list(classes)
    return ModelUnderTest(module, classes=names, input_shape=input_shape, mean=mean, std=std, device=device)


def make_batch(model: ModelUnderTest, images: Any, labels: Any, targets: Targets = None) -> Batch:
    """Images, labels and goal as a batch on the model's device; ids come from the images' bytes.

    `targets`: None is untargeted, int64 (N,) one class an image, bool (N, classes) a mask of predictions
    that count as broken. Raises DataError and UsageError.
    """
    checked = check_images(model, images)
    named = check_labels(labels, len(checked), len(model.classes)).to(model.device)
    goal = None if targets is None else _mask(targets, named, len(model.classes))
    return Batch(checked, named, content_ids(checked), goal)


def check_images(model: ModelUnderTest, images: Any) -> Images:
    """Float32 images on the model's device. Raises DataError outside [0, 1], ModelError for another shape."""
    tensor = _tensor(images, "images")
    if not tensor.is_floating_point():
        raise DataError(f"Images are {tensor.dtype}, where floats in [0, 1] were expected: divide bytes by 255.")
    if tensor.numel() == 0:
        raise DataError("There are no images: at least one was expected.")
    low, high = float(tensor.min()), float(tensor.max())
    if not (low >= 0 and high <= 1):
        raise DataError(
            f"Images lie in [{low:g}, {high:g}], where [0, 1] was expected. Scale them, and give the model's "
            "normalisation as mean and std of audit.wrap."
        )
    return model.check_images(tensor)


def check_labels(labels: Any, images: int, classes: int) -> Labels:
    """int64 labels in range, one an image. Raises DataError."""
    tensor = _tensor(labels, "labels")
    if tensor.is_floating_point() or tensor.dtype == torch.bool or tensor.ndim != 1 or len(tensor) != images:
        raise DataError(
            f"Labels are {tensor.dtype} of shape {tuple(tensor.shape)}, where {images} whole numbers, one an image, "
            "were expected."
        )
    outside = tensor[(tensor < 0) | (tensor >= classes)]
    if len(outside):
        raise DataError(f"Label {int(outside[0])} is outside the model's {classes} classes, 0 to {classes - 1}.")
    return tensor.to(torch.int64)


def _mask(targets: Tensor, labels: Labels, classes: int) -> ClassMask:
    targets = _tensor(targets, "targets").to(labels.device)
    if targets.dtype == torch.bool:
        if tuple(targets.shape) != (len(labels), classes):
            raise UsageError(
                f"The target mask has shape {tuple(targets.shape)}, where ({len(labels)}, {classes}) was expected."
            )
        if bool(targets.gather(1, labels[:, None]).any()):
            raise UsageError("The target mask counts an image's own label as broken; leave each label out of its mask.")
        return targets
    goals = check_labels(targets, len(labels), classes)
    same = (goals == labels).nonzero().flatten()
    if len(same):
        raise UsageError(
            f"Target and label are both class {int(labels[same[0]])} for image {int(same[0])}: a target must differ."
        )
    return torch.zeros(len(labels), classes, dtype=torch.bool, device=labels.device).scatter_(1, goals[:, None], True)


def _tensor(values: Any, name: str) -> Tensor:
    try:
        return torch.as_tensor(np.asarray(values) if not isinstance(values, Tensor) else values)
    except (TypeError, ValueError) as fault:
        raise DataError(f"{name} could not be read as a tensor: {fault}.") from None
