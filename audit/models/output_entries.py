"""The tensor of scores among what a model returns: a tensor, or one in a dictionary, a tuple or an object."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from audit.core.errors import ModelError

_DEPTH = 3
"""How deep structures are searched."""
_NAMES = (
    *("logits", "out", "class_logits", "cls_logits", "pred_logits", "scores", "outputs", "output"),
    *("predictions", "prediction", "preds", "pred", "y_hat", "probabilities", "probs", "prob"),
)
"""What trainers call the scores, in the order in which they are believed where several tensors fit."""


def tensors_in(outputs: Any) -> dict[str, Tensor]:
    """Every tensor in what a model returned, by name: its key, attribute or position, joined by dots.

    Args:
        outputs: What a model returned.

    Returns:
        Tensors by name; a bare tensor has the name "".
    """
    return dict(_walk(outputs, "", _DEPTH))


def as_rows(outputs: Tensor, images: int, classes: int) -> Tensor | None:
    """Scores with one row an image, where nothing but axes of length 1 stands in the way.

    Args:
        outputs: A tensor of any shape.
        images: The number of images, N.
        classes: The number of classes.

    Returns:
        (N, classes), or (N, 1) where there are two classes; None where the shape is no such thing.
    """
    for columns in (classes, 1) if classes == 2 else (classes,):
        if tuple(outputs.shape) == (images, columns):
            return outputs
    shape = list(outputs.shape)
    if images != 1 and shape[:1] != [images]:
        return None
    for columns in (classes, 1) if classes == 2 else (classes,):
        if [side for side in shape if side != 1] == [side for side in (images, columns) if side != 1]:
            return outputs.reshape(images, columns)
    return None


def scores_in(outputs: Any, images: int, classes: int, *, entry: str = "", first: bool = False) -> tuple[str, Tensor]:
    """The scores in what a model returned.

    Where several tensors fit, one that is named as scores are is taken, or the one whose softmax or sigmoid another is.

    Args:
        outputs: What the model returned.
        images: The number of images, N.
        classes: The number of classes.
        entry: The name of the tensor; "" finds it.
        first: Whether the first that fits is taken where names do not tell.

    Returns:
        The tensor's name, and the scores (N, classes), or (N, 1) where there are two classes.

    Raises:
        ModelError: None fits, or several do; they are listed.
    """
    tensors = tensors_in(outputs)
    rows = {name: as_rows(tensor, images, classes) for name, tensor in tensors.items()}
    fitting = {name: scores for name, scores in rows.items() if scores is not None}
    if entry:
        if entry not in fitting:
            raise ModelError(
                f"The model returns no scores named {entry!r}: {_listed(tensors)}. Name one of shape "
                f"({images}, {classes})."
            )
        return entry, fitting[entry]
    if not fitting:
        raise ModelError(_no_scores(outputs, tensors, images, classes))
    name = _named(fitting) or (next(iter(fitting)) if first or len(fitting) == 1 else _raw_scores(fitting))
    if name is None:
        raise ModelError(
            f"The model returns several tensors that may be its scores: {_listed(fitting)}. Say which with "
            f"--output-entry {next(iter(fitting))} (model.output_entry; output_entry of audit.wrap)."
        )
    return name, fitting[name]


def _walk(value: Any, name: str, depth: int) -> list[tuple[str, Tensor]]:
    if isinstance(value, Tensor):
        return [(name, value)]
    if depth == 0:
        return []
    if isinstance(value, Mapping):
        items = [(str(key), item) for key, item in value.items()]
    elif isinstance(value, tuple) and hasattr(value, "_fields"):
        items = list(zip(value._fields, value, strict=True))
    elif isinstance(value, tuple | list):
        items = [(str(position), item) for position, item in enumerate(value)]
    else:
        items = list(getattr(value, "__dict__", {}).items())
    return [pair for key, item in items for pair in _walk(item, f"{name}.{key}" if name else key, depth - 1)]


def _named(fitting: Mapping[str, Tensor]) -> str | None:
    for wanted in _NAMES:
        matches = [name for name in fitting if name.rpartition(".")[2].lower() == wanted]
        if len(matches) == 1:
            return matches[0]
    return None


def _raw_scores(fitting: Mapping[str, Tensor]) -> str | None:
    """The tensor that the others are equal to, or the softmax or sigmoid of."""
    for name, scores in fitting.items():
        forms = (scores.float(), scores.float().softmax(1), scores.float().log_softmax(1), scores.float().sigmoid())
        others = [other.float() for key, other in fitting.items() if key != name]
        if all(any(_alike(other, form) for form in forms) for other in others):
            return name
    return None


def _alike(one: Tensor, other: Tensor) -> bool:
    return one.shape == other.shape and torch.allclose(one, other, rtol=1e-4, atol=1e-6)


def _listed(tensors: Mapping[str, Tensor]) -> str:
    return ", ".join(f"{name or 'output'} {tuple(tensor.shape)}" for name, tensor in tensors.items()) or "no tensor"


def _no_scores(outputs: Any, tensors: Mapping[str, Tensor], images: int, classes: int) -> str:
    expected = f"({images}, {classes}) was expected: one score for each of the {classes} classes"
    if not isinstance(outputs, Tensor):
        return (
            f"The model returns {type(outputs).__name__} ({_listed(tensors)}) for {images} images, where a tensor of "
            f"shape {expected}. Wrap it in a module whose forward returns that tensor."
        )
    shape = tuple(outputs.shape)
    if not outputs.is_floating_point() and shape == (images,):
        return (
            f"The model returns one {str(outputs.dtype).removeprefix('torch.')} value an image, a decision in place of "
            f"scores, where a tensor of shape {expected}. Return the scores that the decision is taken from."
        )
    if outputs.ndim == 4 and shape[0] == images and max(shape[2:]) > 1:
        return (
            f"The model's output has shape {shape} for {images} images: scores for each place, as a segmentation or a "
            f"detection gives, where {expected}. Give an image classifier, or a module that pools its places."
        )
    return (
        f"The model's output has shape {shape} for {images} images, where {expected}. Give the class names in the "
        "model's order, or the architecture with the right number of outputs."
    )
