"""torchvision's detectors: Faster R-CNN, RetinaNet, FCOS, SSD and SSDlite, as they are, thresholds and all."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from audit.core.errors import ModelError
from audit.core.objects import Candidates, Detections, Objects
from audit.core.seeding import fork_global_rng
from audit.core.types import Images
from audit.models.detectors.class_map import ClassMap
from audit.models.detectors.form import DetectorForm

TORCHVISION_KINDS = ("FasterRCNN", "RetinaNet", "FCOS", "SSD")
"""Its classes of detectors; SSDlite is an SSD, and Mask R-CNN and Keypoint R-CNN are no plain Faster R-CNN."""


def torchvision_form(module: nn.Module, class_map: ClassMap) -> DetectorForm:
    """The form of one of torchvision's detectors.

    Args:
        module: The detector.
        class_map: What its outputs stand for.

    Raises:
        ModelError: For any other module.
    """
    kind = torchvision_kind(module)
    if kind == "FasterRCNN":
        return TwoStageForm(module, class_map)
    if kind:
        return OneStageForm(module, class_map)
    raise ModelError(
        f"A {type(module).__name__} is none of torchvision's detectors known here: {', '.join(TORCHVISION_KINDS)}."
    )


def torchvision_kind(module: nn.Module) -> str:
    """Which of torchvision's detectors a module is, one of `TORCHVISION_KINDS`; empty for none.

    Args:
        module: Any module.
    """
    names = [kind.__name__ for kind in type(module).__mro__ if kind.__module__.startswith("torchvision.models.detect")]
    if {"MaskRCNN", "KeypointRCNN"} & set(names):
        return ""
    return next((name for name in names if name in TORCHVISION_KINDS), "")


class _TorchvisionForm(DetectorForm):
    """What all of them have in common.

    Args:
        module: The detector.
        class_map: What its outputs stand for.
    """

    def __init__(self, module: nn.Module, class_map: ClassMap) -> None:
        super().__init__()
        self.detector: Any = module
        self.class_map = class_map

    def detect(self, images: Images) -> list[Detections]:
        """What the detector answers in eval mode.

        Args:
            images: Float32 (N, C, H, W) in [0, 1].
        """
        return [self._translated(answer) for answer in self.detector(list(images))]

    def losses(self, images: Images, objects: Sequence[Objects]) -> Tensor:
        """The sum of its own losses, an image at a time: torchvision averages them over the batch.

        In eval mode the anchors and proposals that Faster R-CNN samples are the same at each call. Crowds are left out,
        as in torchvision's references.

        Args:
            images: Float32 (N, C, H, W) in [0, 1].
            objects: What is there in each; may be none.

        Returns:
            Float32 (N,).
        """
        parts = [self._loss(image, self._target(there)) for image, there in zip(images, objects, strict=True)]
        return torch.stack(parts) if parts else images.new_zeros(0)

    def working_pixels(self, height: int, width: int) -> int:
        """The pixels after torchvision's resizing.

        Args:
            height: Of the images it is given.
            width: Of the images it is given.
        """
        transform = self.detector.transform
        if transform.fixed_size is not None:
            return int(transform.fixed_size[0] * transform.fixed_size[1])
        scale = min(transform.min_size[-1] / min(height, width), transform.max_size / max(height, width))
        return int(height * scale) * int(width * scale)

    def _loss(self, image: Tensor, target: dict[str, Tensor]) -> Tensor:
        with ExitStack() as stack:
            if not self.training:
                stack.enter_context(fork_global_rng(image.device, "samples of anchors"))
                stack.enter_context(_asked_for_losses(self.detector))
            losses: dict[str, Tensor] = self.detector([image], [target])
        return torch.stack(list(losses.values())).sum()

    def _target(self, objects: Objects) -> dict[str, Tensor]:
        real = ~objects.crowd & (objects.boxes[:, 2:] > objects.boxes[:, :2]).all(1)
        return {"boxes": objects.boxes[real], "labels": self.class_map.labels(objects.labels[real])}

    def _translated(self, answer: dict[str, Tensor]) -> Detections:
        labels = self.class_map.positions(answer["labels"])
        known = labels >= 0
        return Detections(answer["boxes"][known], labels[known], answer["scores"][known])


class OneStageForm(_TorchvisionForm):
    """RetinaNet, FCOS and SSD: every anchor answers with a score for each class and one box."""

    def candidates(self, images: Images) -> list[Candidates]:
        """The box of each anchor.

        Args:
            images: Float32 (N, C, H, W) in [0, 1].
        """
        batch, _ = self.detector.transform(list(images))
        features = self.detector.backbone(batch.tensors)
        levels = [features] if isinstance(features, Tensor) else list(features.values())
        answers, anchors = self.detector.head(levels), self.detector.anchor_generator(batch, levels)
        scores = self.class_map.scores(self._scores(answers))
        decode = getattr(self.detector.box_coder, "decode_single", self.detector.box_coder.decode)
        return [
            Candidates(_in_pixels(decode(answers["bbox_regression"][row], anchors[row]), size, images), scores[row])
            for row, size in enumerate(batch.image_sizes)
        ]

    def _scores(self, answers: dict[str, Tensor]) -> Tensor:
        logits = answers["cls_logits"]
        if "bbox_ctrness" in answers:  # FCOS
            return (logits.sigmoid() * answers["bbox_ctrness"].sigmoid()).sqrt()
        return logits.softmax(-1) if torchvision_kind(self.detector) == "SSD" else logits.sigmoid()


class TwoStageForm(_TorchvisionForm):
    """Faster R-CNN: every proposal of its first stage answers with a score and a box for each class."""

    def candidates(self, images: Images) -> list[Candidates]:
        """The proposals, each with the box of the class that it scores highest.

        Args:
            images: Float32 (N, C, H, W) in [0, 1].
        """
        batch, _ = self.detector.transform(list(images))
        features = self.detector.backbone(batch.tensors)
        features = {"0": features} if isinstance(features, Tensor) else features
        proposals, _ = self.detector.rpn(batch, features)
        heads = self.detector.roi_heads
        pooled = heads.box_head(heads.box_roi_pool(features, proposals, batch.image_sizes))
        logits, sides = heads.box_predictor(pooled)
        scores = self.class_map.scores(logits.softmax(-1))
        boxes = heads.box_coder.decode(sides, proposals)
        best = self.class_map.labels(scores.argmax(1))
        chosen = boxes[torch.arange(len(boxes), device=boxes.device), best]
        counts = [len(some) for some in proposals]
        return [
            Candidates(_in_pixels(some, size, images), own)
            for some, own, size in zip(
                torch.split(chosen, counts), torch.split(scores, counts), batch.image_sizes, strict=True
            )
        ]


@contextmanager
def _asked_for_losses(detector: nn.Module) -> Iterator[None]:
    """A block in which a detector gives its losses; every layer stays in eval mode, its resizing too."""
    parts = [detector, *(getattr(detector, name) for name in ("rpn", "roi_heads") if hasattr(detector, name))]
    before = [part.training for part in parts]
    try:
        for part in parts:
            part.training = True
        yield
    finally:
        for part, state in zip(parts, before, strict=True):
            part.training = state


def _in_pixels(boxes: Tensor, size: tuple[int, int], images: Images) -> Tensor:
    """Boxes on a resized image (height, width) as boxes on the one that was given, cut off at its edges."""
    from torchvision.models.detection.transform import resize_boxes
    from torchvision.ops import clip_boxes_to_image

    resized: Tensor = resize_boxes(clip_boxes_to_image(boxes, size), size, images.shape[2:])
    return resized
