"""A user's own detector that is called as torchvision's are: a list of images gives a dictionary of boxes for each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from audit.core.errors import ModelError
from audit.core.note import note
from audit.core.objects import Detections
from audit.core.types import Images
from audit.models.detectors.form import DetectorForm

_KEYS = ("boxes", "labels", "scores")


class CalledForm(DetectorForm):
    """A detector that answers `[{"boxes": (M, 4), "labels": (M,), "scores": (M,)}]` to a list of images.

    Nothing is known of what is inside: it has no losses here and no boxes before suppression.

    Args:
        module: The detector; its labels count the classes from 0.
        classes: The number of classes.
    """

    gives_losses = gives_candidates = gives_gradients = False

    def __init__(self, module: nn.Module, classes: int) -> None:
        super().__init__()
        self.detector, self.classes = module, classes
        self.notes = (
            note(
                "detector_called",
                "The detector is asked for its boxes alone: it gives no losses, so attacks that need them are left "
                "out.",
            ),
        )

    def detect(self, images: Images) -> list[Detections]:
        """What it answers.

        Args:
            images: Float32 (N, C, H, W) in [0, 1].

        Raises:
            ModelError: It answers with something else.
        """
        answers: Any = self.detector(list(images))
        if not isinstance(answers, list | tuple) or len(answers) != len(images):
            raise ModelError(_expected(f"{type(answers).__name__}"))
        return [_detections(answer) for answer in answers]


def _detections(answer: Any) -> Detections:
    if not isinstance(answer, Mapping) or not all(isinstance(answer.get(key), Tensor) for key in _KEYS):
        raise ModelError(_expected(f"a {type(answer).__name__} for an image"))
    boxes, labels, scores = (answer[key] for key in _KEYS)
    return Detections(boxes, labels, scores)


def _expected(answered: str) -> str:
    return (
        f"The model answers with {answered}, where a detector was expected: for a list of images, a list of "
        '{"boxes": (M, 4), "labels": (M,), "scores": (M,)}. A classifier is audited with --task classification.'
    )
