"""Hidden and moved objects on detectors that are wired to go by the object, or by what stands beside it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from audit.core.objects import Detections, Objects
from audit.core.types import Batch, Images
from audit.metrics.detection_background import background_probes
from audit.models.detectors.form import DetectorForm
from audit.models.detectors.under_test import DetectorUnderTest

PLACES = ((4, 4), (4, 20), (20, 4), (20, 20))
"""Where objects of 8 by 8 pixels may stand, top and left."""


class Wired(DetectorForm):
    """Finds class 0 where a place is bright, and class 1 where the pixel to its left is."""

    gives_losses = gives_candidates = gives_gradients = False

    def detect(self, images: Images) -> list[Detections]:
        return [self._one(image) for image in images]

    def _one(self, image: Tensor) -> Detections:
        boxes, labels = [], []
        for top, left in PLACES:
            beside = bool(image[:, top : top + 8, left - 1].mean() > 0.9)
            bright = bool(image[:, top : top + 8, left : left + 8].mean() > 0.6)
            if bright or beside:
                boxes.append([left, top, left + 8, top + 8])
                labels.append(1 if beside else 0)
        return Detections(
            torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
            torch.tensor(labels, dtype=torch.int64),
            torch.ones(len(boxes)),
        )


def _scene(generator: torch.Generator) -> tuple[Tensor, Objects]:
    """One object of each class; beside that of class 1 stands a bright line."""
    image = torch.rand(3, 32, 32, generator=generator) * 0.2
    first, second = torch.randperm(4, generator=generator)[:2].tolist()
    boxes = []
    for label, place in enumerate((first, second)):
        top, left = PLACES[place]
        image[:, top : top + 8, left : left + 8] = 0.8
        if label == 1:
            image[:, top : top + 8, left - 1] = 1.0
        boxes.append([left, top, left + 8, top + 8])
    corners = torch.tensor(boxes, dtype=torch.float32)
    return image, Objects(corners, torch.tensor([0, 1]), torch.full((2,), 64.0), torch.zeros(2, dtype=torch.bool))


@pytest.fixture
def scenes() -> Batch:
    generator = torch.Generator().manual_seed(0)
    images, objects = zip(*(_scene(generator) for _ in range(30)), strict=True)
    ids = tuple(str(i) for i in range(30))
    return Batch(torch.stack(images), torch.zeros(30, dtype=torch.long), ids, objects=tuple(objects))


def test_a_class_that_goes_by_its_surroundings_is_told_from_one_that_does_not(scenes: Batch) -> None:
    detector = DetectorUnderTest(Wired(), classes=("plain", "beside"), input_shape=(3, 32, 32), device="cpu")
    probes = background_probes(detector, scenes, 0, score=0.5)
    assert len(probes.labels) == 60
    plain, beside = probes.labels == 0, probes.labels == 1
    assert not probes.hidden[plain].any()
    assert probes.hidden[beside].all()
    assert probes.moved[plain].all()
    again = background_probes(detector, scenes, 0, score=0.5)
    np.testing.assert_array_equal(probes.moved, again.moved)


def test_crowds_and_missed_objects_are_not_probed(scenes: Batch) -> None:
    detector = DetectorUnderTest(Wired(), classes=("plain", "beside"), input_shape=(3, 32, 32), device="cpu")
    assert scenes.objects is not None
    some = scenes.objects[0]
    crowd = Objects(some.boxes, some.labels, some.areas, torch.tensor([True, False]))
    missed = Objects(some.boxes + 9, some.labels, some.areas, some.crowd)
    few = Batch(scenes.images[:2], scenes.labels[:2], scenes.ids[:2], objects=(crowd, missed))
    probes = background_probes(detector, few, 0, score=0.5)
    assert (probes.image.tolist(), probes.position.tolist()) == ([0], [1])
