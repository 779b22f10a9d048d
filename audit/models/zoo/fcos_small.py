"""A small one-stage detector without anchors, for small images: trains in a minute or two on a CPU.

FCOS (Tian et al. 2019, arXiv:1904.01355) on one level of stride 4 that sees the whole image, with the quality focal
loss of Li et al. 2020 (arXiv:2006.04388): a score is trained to be the IoU of its box.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from audit.core.errors import ModelError
from audit.core.objects import Candidates, Detections, Objects
from audit.core.types import Images
from audit.models.detectors.boxes import generalised_iou, suppressed
from audit.models.detectors.form import DetectorForm
from audit.models.detectors.padded_objects import PaddedObjects, pad_objects
from audit.models.loaded import InputShape

STRIDE = 4
"""Pixels between two points that answer."""
_PRIOR = 0.01
"""What every class scores before training (RetinaNet, arXiv:1708.02002, section 4.1)."""
_LEAST_SCORE = 0.05
_MOST = 100
_SAME_OBJECT = 0.6


class _Dense(NamedTuple):
    """What each of P points says: logits (N, P, classes), boxes (N, P, 4), and the points' x and y (P, 2)."""

    logits: Tensor
    boxes: Tensor
    points: Tensor


def fcos_small(classes: int, input_shape: InputShape) -> FcosSmall:
    """The detector with fresh weights.

    Args:
        classes: The number of classes.
        input_shape: (C, H, W) of the images. Raises ModelError unless height and width are multiples of 16.
    """
    channels, height, width = input_shape
    if height % 16 or width % 16:
        raise ModelError(
            f"fcos-small takes images whose height and width are multiples of 16, not {height}x{width}: choose "
            "another size with --image-size."
        )
    return FcosSmall(classes, channels)


class FcosSmall(DetectorForm):
    """The detector.

    Args:
        classes: The number of classes.
        channels: Of the images.
    """

    def __init__(self, classes: int, channels: int = 3) -> None:
        super().__init__()
        self.fine = nn.Sequential(_block(channels, 24, stride=2), _block(24, 48, stride=2), _block(48, 48))
        self.middle = nn.Sequential(_block(48, 64, stride=2), _block(64, 64))
        self.coarse = nn.Sequential(_block(64, 96, stride=2), _block(96, 96))
        self.from_coarse = nn.Conv2d(96, 64, 1)
        self.from_middle = nn.Conv2d(64, 48, 1)
        self.joined = _block(48, 64)
        self.head = _block(64, 64)
        self.classifier = nn.Conv2d(64, classes, 3, padding=1)
        self.sides = nn.Conv2d(64, 4, 3, padding=1)
        nn.init.constant_(self.classifier.bias, -torch.log(torch.tensor((1 - _PRIOR) / _PRIOR)).item())  # type: ignore[arg-type]
        nn.init.constant_(self.sides.bias, 2.0)  # type: ignore[arg-type]

    def forward(self, images: Images) -> Tensor:
        """The scores of each point, (N, classes, H / 4, W / 4), before the sigmoid.

        Args:
            images: Float32 (N, C, H, W) in [0, 1].
        """
        logits: Tensor = self.classifier(self._features(images))
        return logits

    def detect(self, images: Images) -> list[Detections]:
        """Boxes that score at least .05, the best hundred after suppression.

        Args:
            images: Float32 (N, C, H, W) in [0, 1].
        """
        dense = self._dense(images)
        limits = torch.tensor([images.shape[3], images.shape[2]] * 2, device=images.device)
        boxes = dense.boxes.clamp(min=0).minimum(limits)
        return [
            suppressed(Candidates(boxes[row], scores), least_score=_LEAST_SCORE, overlap=_SAME_OBJECT, most=_MOST)
            for row, scores in enumerate(dense.logits.sigmoid())
        ]

    def candidates(self, images: Images) -> list[Candidates]:
        """The box of each point.

        Args:
            images: Float32 (N, C, H, W) in [0, 1].
        """
        dense = self._dense(images)
        return [Candidates(boxes, scores) for boxes, scores in zip(dense.boxes, dense.logits.sigmoid(), strict=True)]

    def losses(self, images: Images, objects: Sequence[Objects]) -> Tensor:
        """The quality focal loss of the scores and twice the generalised IoU loss of the boxes.

        Args:
            images: Float32 (N, C, H, W) in [0, 1].
            objects: What is there in each; may be none.

        Returns:
            Float32 (N,).
        """
        dense = self._dense(images)
        if not any(len(some) for some in objects):
            return _focal(dense.logits, torch.zeros_like(dense.logits)).sum((1, 2))
        padded = pad_objects(objects)
        owner, positive, left_out = _assigned(dense.points, padded)
        rows = torch.arange(len(owner), device=owner.device)[:, None]
        overlap, loss = generalised_iou(dense.boxes, padded.boxes[rows, owner])
        quality = functional.one_hot(padded.labels[rows, owner], dense.logits.shape[2])
        quality = quality * (overlap.detach().clamp(min=0) * positive)[..., None]
        scores = (_focal(dense.logits, quality) * ~left_out[..., None]).sum((1, 2))
        count = positive.sum(1).clamp(min=1)
        return (scores + 2 * (loss * positive).sum(1)) / count

    def _features(self, images: Images) -> Tensor:
        fine = self.fine((images - 0.5) / 0.25)
        middle = self.middle(fine)
        coarse = self.coarse(middle)
        middle = middle + functional.interpolate(self.from_coarse(coarse), scale_factor=2.0, mode="nearest")
        fine = fine + functional.interpolate(self.from_middle(middle), scale_factor=2.0, mode="nearest")
        features: Tensor = self.head(self.joined(fine))
        return features

    def _dense(self, images: Images) -> _Dense:
        features = self._features(images)
        logits, sides = self.classifier(features), functional.softplus(self.sides(features)) * STRIDE
        height, width = logits.shape[2:]
        y = (torch.arange(height, device=images.device) + 0.5) * STRIDE
        x = (torch.arange(width, device=images.device) + 0.5) * STRIDE
        points = torch.stack([x.repeat(height), y.repeat_interleave(width)], 1)
        before, after = sides.flatten(2).mT.tensor_split(2, 2)
        return _Dense(logits.flatten(2).mT, torch.cat([points - before, points + after], 2), points)


def _block(inside: int, outside: int, *, stride: int = 1) -> nn.Sequential:
    convolution = nn.Conv2d(inside, outside, 3, stride=stride, padding=1, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(outside), nn.ReLU())


def _focal(logits: Tensor, quality: Tensor) -> Tensor:
    """The quality focal loss (arXiv:2006.04388, equation 2) with its exponent of 2."""
    plain = functional.binary_cross_entropy_with_logits(logits, quality, reduction="none")
    return plain * (logits.sigmoid() - quality).square()


def _assigned(points: Tensor, objects: PaddedObjects) -> tuple[Tensor, Tensor, Tensor]:
    """The object of each point, (N, P); whether it has one; whether it lies in a crowd and has none.

    A point belongs to the smallest object that it lies in and whose middle is within a stride and a half (FCOS, section
    3.1, with centre sampling).
    """
    boxes = objects.boxes[:, None]
    before, after = points[:, None] - boxes[..., :2], boxes[..., 2:] - points[:, None]
    inside = torch.cat([before, after], 3).amin(3) > 0
    near = (after - before).abs().amax(3) / 2 < 1.5 * STRIDE
    areas = (boxes[..., 2:] - boxes[..., :2]).prod(3).expand(inside.shape)
    eligible = inside & near & objects.there[:, None]
    smallest, owner = areas.where(eligible, torch.inf).min(2)
    positive = smallest.isfinite()
    return owner, positive, (inside & objects.crowd[:, None]).any(2) & ~positive
