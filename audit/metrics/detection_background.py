"""Whether objects are found by their surroundings: hidden where they are, or put into other surroundings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from audit.core.objects import Detections, Objects
from audit.core.seeding import derive_seed
from audit.core.types import Batch, Images
from audit.models.detectors.boxes import generalised_iou
from audit.models.detectors.under_test import DetectorUnderTest

FOUND_OVERLAP = 0.5
"""From this intersection over union with a detection of its class an object counts as found."""
_RING = 3
"""Pixels around a box from which its hidden inside is drawn."""
_DONORS = 20
"""Other images that are tried for one without objects where the object is to be put."""


@dataclass(frozen=True)
class BackgroundProbes:
    """What became of the objects that were found, crowds apart; P of them.

    Attributes:
        image: Position of each one's image, int64 (P,).
        position: Position among the objects of its image, int64 (P,).
        labels: Its class, int64 (P,).
        hidden: Whether its class is still found there when it is hidden, bool (P,).
        moved: Whether it is still found when all around it is another image, bool (P,).
    """

    image: NDArray[np.int64]
    position: NDArray[np.int64]
    labels: NDArray[np.int64]
    hidden: NDArray[np.bool_]
    moved: NDArray[np.bool_]


def background_probes(detector: DetectorUnderTest, batch: Batch, seed: int, *, score: float) -> BackgroundProbes:
    """Hide each object that is found, and put it into another image, and see whether its class is still found there.

    A hidden object's box is filled with pixels drawn at random from the ring of 3 pixels around it. A moved one keeps
    its box and a margin of a tenth of its sides, at the same place of another image, one without objects there where
    there is such a one.

    Args:
        detector: The detector.
        batch: N images, at least two, with their objects.
        seed: Of the draws, which depend on it and the image's id besides.
        score: What counts as found scores at least this, in [0, 1].
    """
    images, objects = detector.check_images(batch.images), [some.to("cpu") for some in batch.objects or ()]
    found = [some.to("cpu") for some in detector.detect(images)]
    rows = [
        (image, position)
        for image, there in enumerate(objects)
        for position in range(len(there))
        if not bool(there.crowd[position]) and is_found(found[image], there, position, score)
    ]

    def probed(change: _Change) -> NDArray[np.bool_]:
        answers: list[bool] = []
        stride = detector.layout.batch_size
        for start in range(0, len(rows), stride):
            part = rows[start : start + stride]
            changed = torch.stack([change(images, objects, image, position) for image, position in part])
            for (image, position), some in zip(part, detector.detect(changed), strict=True):
                answers.append(is_found(some.to("cpu"), objects[image], position, score))
        return np.array(answers, dtype=np.bool_)

    index = np.array(rows, dtype=np.int64).reshape(-1, 2)
    labels = np.array([int(objects[image].labels[position]) for image, position in rows], dtype=np.int64)
    hidden, moved = (probed(kind(batch.ids, seed)) for kind in (_Hidden, _Moved))
    return BackgroundProbes(index[:, 0], index[:, 1], labels, hidden, moved)


def is_found(found: Detections, there: Objects, position: int, score: float) -> bool:
    """Whether a detection of the object's class overlaps it by at least `FOUND_OVERLAP`.

    Args:
        found: What was found in the image.
        there: The objects of the image.
        position: Which of them.
        score: The detection scores at least this, in [0, 1].
    """
    overlap, _ = generalised_iou(found.boxes, there.boxes[position])
    right = (found.labels == there.labels[position]) & (found.scores >= score)
    return bool(((overlap >= FOUND_OVERLAP) & right).any())


@dataclass(frozen=True)
class _Change:
    ids: Sequence[str]
    seed: int

    def __call__(self, images: Images, objects: Sequence[Objects], image: int, position: int) -> Tensor:
        raise NotImplementedError

    def random(self, image: int, position: int) -> np.random.Generator:
        return np.random.default_rng(derive_seed(self.seed, type(self).__name__, self.ids[image], position))


class _Hidden(_Change):
    def __call__(self, images: Images, objects: Sequence[Objects], image: int, position: int) -> Tensor:
        height, width = images.shape[2:]
        left, top, right, bottom = _pixels(objects[image].boxes[position], height, width, 1.0)
        outer = (max(0, left - _RING), max(0, top - _RING), min(width, right + _RING), min(height, bottom + _RING))
        ring = torch.zeros(height, width, dtype=torch.bool, device=images.device)
        ring[outer[1] : outer[3], outer[0] : outer[2]] = True
        ring[top:bottom, left:right] = False
        changed = images[image].clone()
        sources = changed[:, ring]
        if not sources.shape[1]:  # the object fills the image
            changed[:] = changed.mean((1, 2), keepdim=True)
            return changed
        drawn = self.random(image, position).integers(sources.shape[1], size=(bottom - top) * (right - left))
        filling = sources[:, torch.from_numpy(drawn).to(images.device)]
        changed[:, top:bottom, left:right] = filling.view(len(changed), bottom - top, right - left)
        return changed


class _Moved(_Change):
    def __call__(self, images: Images, objects: Sequence[Objects], image: int, position: int) -> Tensor:
        height, width = images.shape[2:]
        left, top, right, bottom = _pixels(objects[image].boxes[position], height, width, 1.1)
        others = [row for row in self.random(image, position).permutation(len(images))[: _DONORS + 1] if row != image]
        place = torch.tensor([left, top, right, bottom], dtype=torch.float32, device="cpu")
        donor = next((row for row in others if not _crosses(place, objects[row].boxes)), others[0])
        changed = images[donor].clone()
        changed[:, top:bottom, left:right] = images[image][:, top:bottom, left:right]
        return changed


def _pixels(box: Tensor, height: int, width: int, scale: float) -> tuple[int, int, int, int]:
    """Whole pixels that a box covers, enlarged about its middle, within the image: left, top, right, bottom."""
    middle, half = (box[2:] + box[:2]) / 2, (box[2:] - box[:2]) / 2 * scale
    left, top = torch.floor(middle - half).clamp(min=0).int().tolist()
    right, bottom = torch.ceil(middle + half).int().tolist()
    left, top = min(left, width - 1), min(top, height - 1)
    return left, top, max(left + 1, min(right, width)), max(top + 1, min(bottom, height))


def _crosses(place: Tensor, boxes: Tensor) -> bool:
    shared = torch.minimum(place[2:], boxes[:, 2:]) - torch.maximum(place[:2], boxes[:, :2])
    return bool((shared > 0).all(1).any())
