"""Checks the arguments of the public functions, with a sentence for each way to be wrong."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, get_args

import numpy as np
import torch
from torch import Tensor, nn

from audit.core.errors import DataError, UsageError, unknown_name
from audit.core.pixel_range import is_rounding, rounding_notes
from audit.core.seeding import content_ids
from audit.core.types import Batch, ClassMask, Images, Labels
from audit.models.ambient_torch import in_plain_torch, plain_tensor
from audit.models.maite_model import MaiteClassifier, is_maite, maite_class_names
from audit.models.outputs import OutputChoice, OutputMeaning
from audit.models.under_test import ModelUnderTest, require_wrapped

AttackTargets = Tensor | None
"""None for untargeted attacks, int64 (N,) a class an image, bool (N, classes) a mask of adversarial predictions."""


@in_plain_torch
def wrap(
    module: nn.Module | Any,
    *,
    classes: Sequence[str] | int | None = None,
    input_shape: tuple[int, int, int],
    mean: float | Sequence[float] | None = None,
    std: float | Sequence[float] | None = None,
    device: torch.device | str = "auto",
    outputs: OutputMeaning = "auto",
    output_entry: str = "",
) -> ModelUnderTest:
    """Wrap a module for every function of this package; the module is copied and never changed.

    Args:
        module: Maps normalised images (N, C, H, W) to scores (N, classes), perhaps in a dictionary, a tuple or an
            object; two classes may share one score. Or a model by MAITE's protocol, which maps a sequence of images
            (C, H, W) to a sequence of scores (classes,).
        classes: Names in the order of the outputs, or their number; None for `index2label` of a MAITE model.
        input_shape: Of an image, (C, H, W).
        mean: What the module expects subtracted from images in [0, 1], one number or one a channel; None for nothing.
        std: What it expects them divided by after that; None for nothing.
        device: auto, cpu, cuda, cuda:1, mps or a torch device.
        outputs: What the scores mean: "logits", "probabilities" (their sum is 1) or "sigmoid" (each class, or the one
            of two, has its own); "auto" tells it from the module.
        output_entry: Where the module returns several tensors, the scores' key, attribute or position; "" finds them.

    Raises:
        ModelError: The module does not run on such images, or has another number of outputs.
        UsageError: The normalisation or the device is wrong, or the classes are not named.
    """
    if is_maite(module) and callable(module):
        classes = maite_class_names(module) if classes is None else classes
        module = MaiteClassifier(module, input_shape)
    if classes is None:
        raise UsageError("Name the classes in the order of the model's outputs, as in classes=['cat', 'dog'].")
    names = [str(index) for index in range(classes)] if isinstance(classes, int) else list(classes)
    if outputs not in get_args(OutputMeaning):
        raise unknown_name("meaning of outputs", outputs, get_args(OutputMeaning))
    choice = OutputChoice(outputs, str(output_entry)) if outputs != "auto" or output_entry != "" else None
    return ModelUnderTest(
        module, classes=names, input_shape=input_shape, mean=mean, std=std, device=device, outputs=choice
    )


def make_batch(model: ModelUnderTest, images: Any, labels: Any, targets: AttackTargets = None) -> Batch:
    """A batch where the caller has the images, as ten thousand need not fit on a GPU; their ids come from their bytes.

    Args:
        model: The model.
        images: Floats (N, C, H, W) in [0, 1].
        labels: Whole numbers (N,).
        targets: None, classes (N,) or a mask (N, classes); see `AttackTargets`.

    Raises:
        DataError: Images or labels are of the wrong type, shape or range.
        UsageError: A target is its image's label.
    """
    pixels = _image_values(model, images)
    classes = as_label_tensor(labels, len(pixels), len(model.classes)).to(pixels.device)
    goal = None if targets is None else _mask(targets, classes, len(model.classes))
    return Batch(pixels, classes, content_ids(pixels), goal)


def as_image_tensor(model: ModelUnderTest, images: Any) -> Images:
    """Check images and move them to the model's device.

    Args:
        model: The model.
        images: Floats (N, C, H, W) in [0, 1].

    Returns:
        Float32 images.

    Raises:
        DataError: They are no floats, outside [0, 1], or none.
        ModelError: They have another shape than the model's.
    """
    return model.check_images(_image_values(model, images))


def _image_values(model: ModelUnderTest, images: Any) -> Images:
    """Images checked as `as_image_tensor` says, float32, where they are."""
    require_wrapped(model)
    tensor = as_values(images, "images")
    if not tensor.is_floating_point():
        raise DataError(f"Images are {tensor.dtype}, where floats in [0, 1] were expected: divide bytes by 255.")
    if tensor.numel() == 0:
        raise DataError("There are no images: at least one was expected.")
    low, high = float(tensor.min()), float(tensor.max())
    if not math.isfinite(low + high):
        raise DataError("Images hold values that are not finite (NaN or infinity): find where they come from.")
    if not is_rounding(low, high):
        raise DataError(
            f"Images lie in [{low:.8g}, {high:.8g}], where [0, 1] was expected. Scale them, and give the model's "
            "normalisation as mean and std of audit.wrap."
        )
    model.check_shape(tensor)
    return tensor.to(torch.float32).clamp(0, 1)


def given_image_notes(images: Any) -> tuple[str, ...]:
    """What was done to images that `as_image_tensor` took.

    Args:
        images: The images as they were given.
    """
    tensor = as_values(images, "images")
    return tuple(map(str, rounding_notes(float(tensor.min()), float(tensor.max()))))


def as_label_tensor(labels: Any, images: int, classes: int) -> Labels:
    """Check labels.

    Args:
        labels: Whole numbers (N,) or (N, 1), of an integer or a floating type.
        images: The number of images, N.
        classes: The number of classes.

    Returns:
        Int64 labels in [0, classes).

    Raises:
        DataError: They are no whole numbers, of another number, or out of range.
    """
    tensor = as_values(labels, "labels")
    tensor = tensor.flatten() if tensor.ndim == 2 and tensor.shape[1] == 1 else tensor
    if tensor.is_floating_point() and bool((tensor == tensor.round()).all()):  # as pandas holds whole numbers
        tensor = tensor.to(torch.int64)
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
    targets = as_values(targets, "targets").to(labels.device)
    if targets.dtype == torch.bool:
        if tuple(targets.shape) != (len(labels), classes):
            raise UsageError(
                f"The target mask has shape {tuple(targets.shape)}, where ({len(labels)}, {classes}) was expected."
            )
        if bool(targets.gather(1, labels[:, None]).any()):
            raise UsageError("The target mask counts an image's own label as broken; leave each label out of its mask.")
        return targets
    goals = as_label_tensor(targets, len(labels), classes)
    same = (goals == labels).nonzero().flatten()
    if len(same):
        raise UsageError(
            f"Target and label are both class {int(labels[same[0]])} for image {int(same[0])}: a target must differ."
        )
    return torch.zeros(len(labels), classes, dtype=torch.bool, device=labels.device).scatter_(1, goals[:, None], True)


def as_values(values: Any, name: str) -> Tensor:
    """What a caller gave as a tensor, without its graph.

    Args:
        values: A tensor, an array or a nested list of numbers.
        name: The argument it was given as.

    Raises:
        DataError: No tensor can be made of it.
    """
    try:
        return plain_tensor(torch.as_tensor(np.asarray(values) if not isinstance(values, Tensor) else values))
    except (TypeError, ValueError) as fault:
        raise DataError(f"{name} could not be read as a tensor: {fault}.") from None
