"""A detector in training: its losses for the loop, and its mAP on held-out images, which chooses the best epoch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from audit.core.objects import Detections, Objects, pack_detections, pack_objects
from audit.core.threat import Norm
from audit.core.types import Batch, Images
from audit.metrics.average_precision import average_precision
from audit.metrics.box_matching import match_boxes
from audit.models.batching import set_memory_format
from audit.models.detectors.form import DetectorForm
from audit.training.training_module import TrainingModule

_BATCH = 64


class DetectionModule(TrainingModule):
    """A detector in training; it normalises and reads its outputs itself.

    Args:
        form: The detector.
        autocast: Whether it runs in bfloat16.
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
        with torch.autocast(images.device.type, torch.bfloat16, enabled=self.autocast):
            losses = self.net.losses(images, objects)
        self.forwards += self.processes * len(images)
        if losses.requires_grad:
            losses.register_hook(self._count_backward)  # type: ignore[no-untyped-call]
        return losses

    def detect(self, images: Images) -> list[Detections]:
        """What is found in each image, counted as a pass.

        Args:
            images: Images (N, C, H, W) in [0, 1].
        """
        self.forwards += self.processes * len(images)
        return self.net.detect(images)

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
    """

    held_out: Batch

    def __call__(self, net: nn.Module) -> dict[str, float]:
        """Measure the mAP of a detector.

        Args:
            net: A `DetectionModule`.

        Returns:
            `clean_map`, in [0, 1]; 0 where no held-out image has an object.
        """
        assert isinstance(net, DetectionModule)
        training = net.training
        net.eval()
        with torch.no_grad():
            answers = [
                found
                for start in range(0, len(self.held_out), _BATCH)
                for found in net.detect(self.held_out.images[start : start + _BATCH])
            ]
        net.train(training)
        return {"clean_map": mean_average_precision(self.held_out.objects or (), answers)}


def mean_average_precision(objects: Sequence[Objects], found: Sequence[Detections]) -> float:
    """mAP at overlaps .50 to .95, in [0, 1]; 0 where there is no object.

    Args:
        objects: The true objects of N images.
        found: What was found in each.
    """
    truth, packed = pack_objects(objects), pack_detections(found)
    classes = 1 + max([0, *truth.labels.tolist(), *packed.labels.tolist()])
    precision = average_precision(match_boxes(truth, packed, classes, sizes=("all",)), resamples=1)
    return 0.0 if precision is None else precision.mean.estimate
