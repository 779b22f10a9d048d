"""What a model does last, told from the graph that autograd records, or from where its outputs stay."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from audit.core.errors import ModelError
from audit.core.types import Images
from audit.models.output_entries import scores_in

_FAR = (1e2, 1e4, 1e6)
"""Images are scaled by so much to see whether outputs stay in [0, 1] wherever the net is asked."""
_PASSING = ("View", "Reshape", "Squeeze", "Unsqueeze", "Select", "Slice", "ToCopy", "Clone", "Alias", "Clamp", "Expand")
_AFFINE = ("Add", "Sub", "Rsub", "Mul", "Div", "Neg")
"""Operations that only scale and shift where the other side is a number."""
LINEAR = ("Addmm", "Mm", "Linear", "Convolution", "Bmm", "Baddbmm")
"""Operations of a last layer, whose outputs have no bounds."""
_SQUASHING = {"Sigmoid": "sigmoid", "Hardsigmoid": "sigmoid", "Softmax": "softmax", "LogSoftmax": "log-softmax"}


def in_unit(scores: Tensor) -> Tensor:
    """Whether all scores lie in [0, 1], a scalar.

    Args:
        scores: Scores of any shape.
    """
    return ((scores >= 0) & (scores <= 1)).all()


def last_operation(run: Callable[[Images], Any], images: Images, classes: int, entry: str) -> str:
    """The name of the last operation that changes numbers, such as "sigmoid"; "" where autograd does not see it.

    Args:
        run: Gives what the model returns of images.
        images: A few images, float32 (N, C, H, W).
        classes: The number of classes.
        entry: The name of the scores among what it returns; "" for a bare tensor.
    """
    try:
        with torch.enable_grad():
            outputs = run(images.detach().clone().requires_grad_(True))
        node = scores_in(outputs, len(images), classes, entry=entry)[1].grad_fn
    except (RuntimeError, ModelError):
        return ""
    name = ""
    while node is not None:
        name = node.name().rstrip("01").removesuffix("Backward").lstrip("_")
        inputs = [source for source, _ in node.next_functions if source is not None]
        scaled = name in _AFFINE and len(inputs) == 1
        if not (scaled or name.startswith(_PASSING) or name == "UnsafeView"):
            break
        node = inputs[0] if inputs else None
    return _SQUASHING.get(name, name)


def stays_in_unit(run: Callable[[Images], Any], images: Images, classes: int, entry: str) -> bool:
    """Whether outputs stay in [0, 1] on images far outside the usual range, as those of a sigmoid do.

    Args:
        run: Gives what the model returns of images.
        images: A few images, float32 (N, C, H, W).
        classes: The number of classes.
        entry: The name of the scores among what it returns; "" for a bare tensor.
    """
    for factor in _FAR:
        try:
            with torch.no_grad():
                outputs = run((images - 0.5) * factor)
                scores = scores_in(outputs, len(images), classes, entry=entry)[1]
        except (RuntimeError, ValueError, ModelError):
            break
        if not bool(torch.isfinite(scores).all()):
            break
        if not bool(in_unit(scores)):
            return False
    return True
