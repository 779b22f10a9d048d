"""MAITE's terms (MIT Lincoln Laboratory's protocols for test and evaluation), as structures: the package is not needed.

A model is called with a sequence of images (C, H, W) and gives a sequence of scores (classes,); it, a data set and an
augmentation carry `metadata`, a mapping with an `id` and perhaps `index2label`, from number to name of a class.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from audit.core.errors import ModelError, UsageError
from audit.core.types import Images, Logits


class MaiteClassifier(nn.Module):
    """A MAITE model as a net: a batch becomes a sequence of images, the sequence of answers a batch again."""

    def __init__(self, model: Any, input_shape: tuple[int, int, int]) -> None:
        """Wrap a model.

        Args:
            model: A MAITE model of image classification.
            input_shape: (C, H, W) of its images.
        """
        super().__init__()
        self.model = model
        self.takes_tensors = _follows_gradients(model, input_shape)

    def forward(self, images: Images) -> Logits:
        """The scores, (N, classes).

        Args:
            images: Float (N, C, H, W).

        Raises:
            ModelError: The model does not answer with one vector of scores an image.
        """
        if self.takes_tensors:
            answers = list(self.model(list(images)))
        else:
            answers = list(self.model([np.ascontiguousarray(image) for image in images.detach().cpu().numpy()]))
        scores = [_as_tensor(answer).to(images.device) for answer in answers]
        if len(scores) != len(images) or any(row.ndim != 1 or len(row) != len(scores[0]) for row in scores):
            shapes = sorted({tuple(row.shape) for row in scores})
            raise ModelError(
                f"The MAITE model {maite_metadata(self.model)['id']!r} answered {len(images)} images with "
                f"{len(scores)} arrays of shape {', '.join(map(str, shapes)) or 'none'}, where one vector of scores "
                "an image, (classes,), was expected."
            )
        stacked = torch.stack(scores)
        return stacked if stacked.is_floating_point() else stacked.float()


def is_maite(component: Any) -> bool:
    """Whether something carries MAITE's metadata: a mapping with an `id`.

    Args:
        component: A model, a data set or an augmentation, or anything else.
    """
    metadata = getattr(component, "metadata", None)
    return isinstance(metadata, Mapping) and "id" in metadata


def maite_metadata(component: Any) -> Mapping[str, Any]:
    """The metadata of what `is_maite`.

    Args:
        component: A model, a data set or an augmentation.
    """
    metadata: Mapping[str, Any] = component.metadata
    return metadata


def maite_class_names(component: Any) -> tuple[str, ...] | None:
    """The names in `index2label`; None where there is none.

    Args:
        component: A model or a data set.

    Raises:
        UsageError: Its numbers are not those from 0 on.
    """
    labels = maite_metadata(component).get("index2label")
    if labels is None:
        return None
    if not isinstance(labels, Mapping) or sorted(labels) != list(range(len(labels))):
        numbers = sorted(labels, key=str)[:6] if isinstance(labels, Mapping) else labels
        raise UsageError(
            f"index2label of {maite_metadata(component)['id']!r} names the classes {numbers}, where each number "
            "from 0 on was expected. Mend it, or give classes=[...] in the order of the scores."
        )
    return tuple(str(labels[number]) for number in range(len(labels)))


def _follows_gradients(model: Any, shape: tuple[int, int, int]) -> bool:
    """Whether the model takes tensors and its answers follow them; asked of a copy, on two grey images."""
    leaf = torch.full((2, *shape), 0.5, device="cpu", requires_grad=True)
    try:
        with torch.enable_grad():
            answers = list(copy.deepcopy(model)(list(leaf)))
    except Exception:  # whatever a model raises that was made for arrays
        return False
    return all(isinstance(answer, Tensor) and answer.requires_grad for answer in answers)


def _as_tensor(answer: Any) -> Tensor:
    return answer if isinstance(answer, Tensor) else torch.as_tensor(np.asarray(answer))
