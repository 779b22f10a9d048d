"""A detector in training: its losses for the loop, and its mAP on held-out images, which chooses the best epoch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from audit.core.ascent import projected_step
from audit.core.objects import Detections, Objects, pack_detections, pack_objects
from audit.core.seeding import Generators
from audit.core.threat import Norm, ThreatModel
from audit.core.types import Batch, Images
from audit.metrics.average_precision import mean_precision
from audit.metrics.box_matching import match_boxes
from audit.models.batching import set_memory_format
from audit.models.detectors.form import DetectorForm
from audit.models.precision import bfloat16_autocast
from audit.training.inner_attack import frozen_eval
from audit.training.memory import fitting
from audit.training.training_module import TrainingModule

_BATCH = 64
_RELATIVE_STEP = 0.25
"""Length of a step of the held-out attack, in units of eps."""


class DetectionModule(TrainingModule):
    """A detector in training; it normalises and reads its outputs itself.

    Args:
        form: The detector.
        autocast: Whether it runs in bfloat16.

    Attributes:
        net: The detector.
    """

    net: DetectorForm

    def __init__(self, form: DetectorForm, *, autocast: bool = False) -> None:
        super().__init__(form, (0.0,), (1.0,), autocast=autocast)

    def losses(self, images: Images, objects: Sequence[Objects]) -> Tensor:
        """The loss of each image, counted as a pass.

        Args:
            images: Images (N, C, H, W) in [0, 1].
            objects: What is there in each.

        Returns:
            Float (N,).
        """
        parts = self.memory.parts(len(images), training=self.training)
        if len(parts) == 1:
            losses = self._losses(images, objects)
        else:  # nothing within the detector is kept: going back, each part is asked again
            asked = [checkpoint(self._losses, images[rows], objects[rows], use_reentrant=False) for rows in parts]
            losses = torch.cat(asked)
        self.forwards += len(images)
        if losses.requires_grad:
            losses.register_hook(self._count_backward)  # type: ignore[no-untyped-call]
        return losses

    def detect(self, images: Images) -> list[Detections]:
        """What is found in each image, counted as a pass.

        Args:
            images: Images (N, C, H, W) in [0, 1].
        """
        return fitting(self, lambda: self._detected(images))

    def needs_whole_batch(self) -> bool:
        """True: in train mode losses rest on what is drawn from the proposals of a batch, or on its statistics."""
        return True

    def _losses(self, images: Images, objects: Sequence[Objects]) -> Tensor:
        if not self.autocast:
            return self.net.losses(images, objects)
        with bfloat16_autocast(images.device):
            return self.net.losses(images, objects)

    def _detected(self, images: Images) -> list[Detections]:
        self.forwards += len(images)
        parts = self.memory.parts(len(images), training=self.training)
        return [found for rows in parts for found in self.net.detect(images[rows])]

    def normalised(self, images: Images) -> Images:
        """The images as they are.

        Args:
            images: Images (N, C, H, W) in [0, 1].
        """
        return images

    def choose_layout(self, images: Images) -> None:
        """Lay the weights out with the channels last.

        Args:
            images: A few images (N, C, H, W) in [0, 1].
        """
        set_memory_format(self.net, channels_last=True)

    def learn_outputs(self, images: Images, classes: int) -> None:
        """Nothing: a form says what its outputs are.

        Args:
            images: A few images (N, C, H, W) in [0, 1].
            classes: The number of classes.
        """

    def require_gradients(self, images: Images, *, adversarial: bool) -> None:
        """Nothing: a form says whether it gives losses.

        Args:
            images: A few images (N, C, H, W) in [0, 1].
            adversarial: Whether attacks need the gradient of the images.
        """

    def learn_gradient_point(self, shape: tuple[int, int, int], norm: Norm) -> None:
        """Nothing: gradients are taken at the image.

        Args:
            shape: (C, H, W) of an image.
            norm: The norm of the attacks.
        """


@dataclass(frozen=True)
class DetectionValidator:
    """Measures mAP on held-out images.

    Attributes:
        held_out: The images with their objects, on the detector's device.
        threat: The adversary, if any.
        seed: The seed of the random starts.
        examples: How many of the first images are attacked.
        steps: Gradient steps of the attack.
    """

    held_out: Batch
    threat: ThreatModel | None
    seed: int
    examples: int
    steps: int

    def __call__(self, net: nn.Module) -> dict[str, float]:
        """Measure the mAP of a detector.

        Args:
            net: A `DetectionModule`.

        Returns:
            `clean_map`, and `robust_map` where there is an adversary, in [0, 1]; 0 where no image has an object.
        """
        assert isinstance(net, DetectionModule)
        with frozen_eval(net):
            scores = {"clean_map": _map_of(net, self.held_out.images, self.held_out.objects or ())}
            if self.threat is not None:
                attacked = self.held_out.select(torch.arange(min(self.examples, len(self.held_out)), device="cpu"))
                images = _attacked(net, attacked, self.threat, seed=self.seed, steps=self.steps)
                scores["robust_map"] = _map_of(net, images, attacked.objects or ())
        return scores


def _map_of(net: DetectionModule, images: Images, objects: Sequence[Objects]) -> float:
    with torch.no_grad():
        parts = [net.detect(images[start : start + _BATCH]) for start in range(0, len(images), _BATCH)]
    return mean_average_precision(objects, [found for part in parts for found in part])


def _attacked(net: DetectionModule, batch: Batch, threat: ThreatModel, *, seed: int, steps: int) -> Images:
    """Images that projected gradient ascent on the losses reaches, from the same random points in every epoch."""
    generators = Generators.of(batch.ids, seed=seed, purpose="held-out attack", device=batch.images.device)
    parts: list[Images] = []
    for start in range(0, len(batch), _BATCH):
        rows = torch.arange(start, min(start + _BATCH, len(batch)), device=batch.images.device)
        origin, objects = batch.images[rows], (batch.objects or ())[start : start + _BATCH]
        images = threat.random_start(origin, generators.select(rows))
        for _ in range(steps):
            gradient = loss_gradient(net, images, objects)
            images = projected_step(images, origin, gradient, threat, _RELATIVE_STEP * threat.eps)
        parts.append(images)
    return torch.cat(parts)


def loss_gradient(net: DetectionModule, images: Images, objects: Sequence[Objects]) -> Images:
    """The gradient of each image's own loss with respect to it, (N, C, H, W).

    Args:
        net: The detector.
        images: Images (N, C, H, W) in [0, 1].
        objects: What is there in each.
    """

    def there_and_back() -> Images:
        leaf = images.detach().requires_grad_(True)
        (gradient,) = torch.autograd.grad(net.losses(leaf, objects).sum(), leaf)
        return gradient

    return fitting(net, there_and_back)


def mean_average_precision(objects: Sequence[Objects], found: Sequence[Detections]) -> float:
    """mAP at overlaps .50 to .95, in [0, 1]; 0 where there is no object.

    Args:
        objects: The true objects of N images.
        found: What was found in each.
    """
    truth, packed = pack_objects(objects), pack_detections(found)
    classes = 1 + max([0, *truth.labels.tolist(), *packed.labels.tolist()])
    precision = mean_precision(match_boxes(truth, packed, classes, sizes=("all",)))
    return 0.0 if math.isnan(precision) else precision
