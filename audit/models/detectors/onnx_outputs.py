"""The forms of outputs that exporters of detectors write into ONNX files."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from audit.core.errors import ModelError
from audit.core.objects import Detections


@dataclass(frozen=True)
class OutputForm:
    """A form of outputs that is known here.

    Attributes:
        what: The outputs, in words, N images and C classes.
        fits: Whether shapes, in the order of the outputs, are of it for C classes.
        raw: `(outputs) -> (boxes (N, A, 4), scores (N, A, C))` before suppression; None where the file suppresses.
        final: `(outputs, row) -> Detections` of an image where the file suppresses; None where it does not.
    """

    what: str
    fits: Callable[[Sequence[tuple[int, ...]], int], bool]
    raw: Callable[[Sequence[Tensor]], tuple[Tensor, Tensor]] | None = None
    final: Callable[[Sequence[Tensor], int], Detections] | None = None


def output_form_of(shapes: Mapping[str, tuple[int, ...]], classes: int, name: str) -> OutputForm:
    """The form that outputs have.

    Args:
        shapes: The shape of each output for one image, by name and in order.
        classes: The number of classes.
        name: The file's name.

    Raises:
        ModelError: None that is known; the outputs are listed, and what would make a form.
    """
    listed = list(shapes.values())
    form = next((form for form in _FORMS if form.fits(listed, classes)), None)
    if form is None:
        own = "; ".join(f"{key} {shape}" for key, shape in shapes.items())
        known = "; ".join(form.what for form in _FORMS)
        raise ModelError(
            f"The outputs of {name} are {own}, of no form known here for {classes} classes. Known for C classes: "
            f"{known}. Export it so, or give a module that answers boxes, labels and scores with "
            "--architecture FILE.py:FUNCTION."
        )
    return form


def _from_middle(boxes: Tensor) -> Tensor:
    middle, half = boxes[..., :2], boxes[..., 2:].clamp(min=0) / 2
    return torch.cat([middle - half, middle + half], -1)


def _without_objectness(outputs: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    return _from_middle(outputs[0][..., :4]), outputs[0][..., 4:]


def _with_objectness(outputs: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    return _from_middle(outputs[0][..., :4]), outputs[0][..., 4:5] * outputs[0][..., 5:]


def _six_columns(outputs: Sequence[Tensor], row: int) -> Detections:
    rows = outputs[0][row]
    return _kept(rows[:, :4], rows[:, 5], rows[:, 4])


def _counted(outputs: Sequence[Tensor], row: int) -> Detections:
    count = int(outputs[0][row].item())
    return _kept(*(outputs[i][row][:count] for i in (1, 3, 2)))


def _kept(boxes: Tensor, labels: Tensor, scores: Tensor) -> Detections:
    real = (scores > 0) & (labels >= 0)
    return Detections(boxes[real].float(), labels[real].long(), scores[real].float())


def _one(shapes: Sequence[tuple[int, ...]], *last: int) -> bool:
    return len(shapes) == 1 and len(shapes[0]) == 3 and shapes[0][2] in last


_FORMS = (
    OutputForm(
        "one output (N, A, 5 + C) of middle, sides, objectness and class scores (YOLOv5, YOLOv7)",
        lambda shapes, classes: (
            _one(shapes, 5 + classes) and shapes[0][1] > 5 + classes and not (classes == 1 and shapes[0][1] <= 300)
        ),
        raw=_with_objectness,
    ),
    OutputForm(
        "one output (N, 4 + C, A) of middle, sides and class scores (YOLOv8 and later)",
        lambda shapes, classes: (
            len(shapes) == 1 and len(shapes[0]) == 3 and shapes[0][1] == 4 + classes and shapes[0][2] > 4 + classes
        ),
        raw=lambda outputs: _without_objectness([outputs[0].mT]),
    ),
    OutputForm(
        "one output (N, A, 4 + C) of the same, turned",
        lambda shapes, classes: _one(shapes, 4 + classes) and classes != 2 and shapes[0][1] > 4 + classes,
        raw=_without_objectness,
    ),
    OutputForm(
        "one output (N, K, 6) of corners, score and class, suppressed inside (YOLOv10)",
        lambda shapes, classes: _one(shapes, 6),
        final=_six_columns,
    ),
    OutputForm(
        "four outputs of count (N, 1), corners (N, K, 4), scores (N, K) and classes (N, K), suppressed inside",
        lambda shapes, classes: (
            [len(shape) for shape in shapes] == [2, 3, 2, 2] and shapes[0][1] == 1 and shapes[1][2] == 4
        ),
        final=_counted,
    ),
)
