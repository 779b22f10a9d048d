"""Small detectors with random weights for tests, by name; each finds something in noise."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from audit.core.objects import Objects
from audit.models.detectors.class_map import ClassMap
from audit.models.detectors.form import DetectorForm
from audit.models.detectors.torchvision_form import torchvision_form
from audit.models.detectors.under_test import DetectorUnderTest
from audit.models.zoo.fcos_small import fcos_small

DETECTED = ("circle", "square", "triangle")
DETECTOR_SHAPE = (3, 48, 64)


def noise_images(count: int, shape: tuple[int, int, int] = DETECTOR_SHAPE) -> Tensor:
    """Images of noise, (count, C, H, W)."""
    return torch.rand(count, *shape, generator=torch.Generator().manual_seed(3))


def some_objects(*counts: int) -> list[Objects]:
    """So many drawn objects an image."""
    draw = torch.Generator().manual_seed(4)
    answer = []
    for count in counts:
        corner = torch.rand(count, 2, generator=draw) * 20
        boxes = torch.cat([corner, corner + 12 + torch.rand(count, 2, generator=draw) * 12], 1)
        labels = torch.randint(0, len(DETECTED), (count,), generator=draw)
        areas = (boxes[:, 2:] - boxes[:, :2]).prod(1)
        answer.append(Objects(boxes, labels, areas, torch.zeros(count, dtype=torch.bool)))
    return answer


def torchvision_detector(name: str, **settings: Any) -> nn.Module:
    """One of torchvision's detectors in eval mode, whose classifier is sure enough to answer."""
    from torchvision.models import detection

    module: nn.Module = getattr(detection, name)(
        weights=None, weights_backbone=None, num_classes=len(DETECTED) + 1, **settings
    )
    batch, _ = module.eval().transform(list(noise_images(4)))  # type: ignore[operator]
    with torch.no_grad():
        for layer in module.modules():
            if isinstance(layer, nn.BatchNorm2d):
                layer.momentum = None  # its statistics become those of the next batch
        module.train().backbone(batch.tensors)  # type: ignore[operator]
        for path, layer in module.named_modules():
            if path.endswith("cls_logits") and isinstance(layer, nn.Conv2d) and layer.bias is not None:
                layer.bias += 3.0
    return module.eval()


def _small(seed: int = 0) -> DetectorForm:
    torch.manual_seed(seed)
    form = fcos_small(len(DETECTED), DETECTOR_SHAPE)
    with torch.no_grad():
        for layer in form.modules():
            if isinstance(layer, nn.BatchNorm2d):  # as after training, so that the answer depends on the image
                layer.running_var.fill_(0.2)  # type: ignore[union-attr]
        form.classifier.bias += 4.0  # type: ignore[operator]
    return form


def _of_torchvision(name: str, **settings: Any) -> Callable[[], DetectorForm]:
    def build() -> DetectorForm:
        torch.manual_seed(0)
        return torchvision_form(torchvision_detector(name, **settings), ClassMap.after_background(len(DETECTED)))

    return build


DETECTORS: dict[str, Callable[[], DetectorForm]] = {
    "fcos-small": _small,
    "fasterrcnn": _of_torchvision("fasterrcnn_mobilenet_v3_large_320_fpn", min_size=64, box_score_thresh=0.2),
    "ssdlite": _of_torchvision("ssdlite320_mobilenet_v3_large"),
    "fasterrcnn-resnet": _of_torchvision("fasterrcnn_resnet50_fpn", min_size=64, rpn_post_nms_top_n_test=50),
    "retinanet": _of_torchvision("retinanet_resnet50_fpn", min_size=64),
    "fcos": _of_torchvision("fcos_resnet50_fpn", min_size=64),
    "ssd": _of_torchvision("ssd300_vgg16"),
}
FAST_DETECTORS = ("fcos-small", "fasterrcnn", "ssdlite")
"""Those that take no seconds."""


def wrapped_detector(name: str) -> DetectorUnderTest:
    """A detector under test on the CPU."""
    return DetectorUnderTest(DETECTORS[name](), classes=DETECTED, input_shape=DETECTOR_SHAPE, device="cpu")
