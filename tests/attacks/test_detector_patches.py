"""Patches on detectors: where they lie, what the verifier lets pass, and the optimum on a detector that is known."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from audit.adversarial.detection_verify import verify_detections
from audit.attacks.detection.detector_patch import detector_patch
from audit.attacks.detection.patch_on_objects import PAINT_SIDE, PatchOnObjects
from audit.attacks.patch import PatchThreat
from audit.core.detection_aim import DetectionAim
from audit.core.objects import Candidates, Detections, Objects
from audit.core.seeding import Generators
from audit.core.types import Batch, Images
from audit.models.detectors.form import DetectorForm
from audit.models.detectors.under_test import DetectorUnderTest
from tests.made_detectors import noise_images, some_objects, wrapped_detector

SIDE = 16
EVERYWHERE = torch.tensor([[0.0, 0.0, 16.0, 16.0]])


class WeighedForm(DetectorForm):
    """One box over the whole image, found with the score sigmoid(a weighted sum of the pixels)."""

    weight: Tensor

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.register_buffer("weight", weight)

    def candidates(self, images: Images) -> list[Candidates]:
        scores = torch.sigmoid(((images - 0.5) * self.weight).flatten(1).sum(1))
        return [Candidates(EVERYWHERE, score.view(1, 1)) for score in scores]

    def detect(self, images: Images) -> list[Detections]:
        label = torch.zeros(1, dtype=torch.long)
        return [Detections(some.boxes, label, some.scores[:, 0]) for some in self.candidates(images)]


def _there(boxes: Sequence[Sequence[float]], crowd: Sequence[bool] = ()) -> Objects:
    corners = torch.tensor(boxes, dtype=torch.float32).view(-1, 4)
    flags = torch.tensor(list(crowd) or [False] * len(corners), dtype=torch.bool)
    areas = (corners[:, 2:] - corners[:, :2]).prod(1)
    return Objects(corners, torch.zeros(len(corners), dtype=torch.long), areas, flags)


def _batch(images: Images, objects: Sequence[Objects]) -> Batch:
    ids = tuple(f"image {i}" for i in range(len(images)))
    return Batch(images, torch.zeros(len(images), dtype=torch.long), ids, objects=tuple(objects))


def _draws(batch: Batch) -> Generators:
    return Generators.of(batch.ids, seed=0, purpose="patch", device="cpu")


def _slowly_painted(paint: Tensor, rows: int, columns: int) -> Tensor:
    """The paint averaged over equal parts, pixel by pixel of a copy so fine that every part is whole."""
    fine = paint.repeat_interleave(rows, 1).repeat_interleave(columns, 2)
    return fine.view(paint.shape[0], rows, PAINT_SIDE, columns, PAINT_SIDE).mean((2, 4))


OBJECTS = [
    _there([[2, 3, 12, 13], [20, 4, 33, 11]]),
    _there([]),
    _there([[0, 0, 40, 30], [14, 10, 26, 20], [38, 1, 39, 29]], [False, False, False]),
    _there([[5, 5, 25, 25], [30, 20, 42, 29]], [True, False]),
]


def test_the_patch_lies_on_the_middle_of_every_object_and_is_the_paint_at_its_size() -> None:
    images, paint = noise_images(4, (3, 30, 44)), torch.rand(1, 3, PAINT_SIDE, PAINT_SIDE)
    threat = PatchOnObjects(0.25, OBJECTS)
    painted, inside = threat.painted(images, paint), threat.inside(images).expand_as(images)
    assert torch.equal(painted[~inside], images[~inside])
    small, large = _slowly_painted(paint[0], 5, 5), _slowly_painted(paint[0], 17, 17)
    assert torch.allclose(painted[0, :, 6:11, 4:9], small, atol=1e-6)
    assert not inside[1].any()
    assert int(inside[3, 0].sum()) == 25  # a crowd gets none
    assert torch.allclose(painted[2, :, 12:17, 18:23], small, atol=1e-6)  # on top of the first
    assert torch.allclose(painted[2, :, 6:12, 12:29], large[:, :6], atol=1e-6)
    assert inside[2, 0, :, 38].nonzero().flatten().tolist() == list(range(12, 19))  # as narrow as its object


@pytest.mark.parametrize("area", [0.05, 0.3, 0.9])
def test_the_gradient_to_the_paint_is_that_of_the_painted_images(area: float) -> None:
    """Against finite differences, which are exact as the images are linear in the paint."""
    images, threat = noise_images(4, (3, 30, 44)).double(), PatchOnObjects(area, OBJECTS)
    weight = torch.rand(images.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    gradient = threat.pulled_back(weight)
    draw = torch.Generator().manual_seed(2)
    base = torch.full((1, 3, PAINT_SIDE, PAINT_SIDE), 0.5, dtype=torch.float64)
    for _ in range(5):
        step = torch.rand(base.shape, generator=draw, dtype=torch.float64) - 0.5
        change = threat.painted(images, base + step / 4) - threat.painted(images, base - step / 4)
        assert float((change * weight).sum()) == pytest.approx(float((gradient * step).sum()) / 2, rel=1e-9)


def test_the_verifier_finds_what_changed_beside_the_patch() -> None:
    detector, objects = wrapped_detector("fcos-small"), some_objects(2, 1)
    images, threat = noise_images(2), PatchOnObjects(0.2, some_objects(2, 1))
    proposals = threat.painted(images, torch.rand(1, 3, PAINT_SIDE, PAINT_SIDE))
    assert bool(threat.allows(proposals, images).all())
    outside = (~threat.inside(images)[0, 0]).nonzero()[0].tolist()
    proposals[0, 0, outside[0], outside[1]] += 0.01
    verified = verify_detections(detector, images, proposals, threat)
    assert verified.faults.tolist() == [True, False]
    assert bool(threat.allows(verified.images, images).all())
    proposals[1] = torch.where(threat.inside(images)[1], torch.tensor(1.5), images[1])
    verified = verify_detections(detector, images, proposals, threat)
    assert verified.faults.tolist() == [True, True] and float(verified.images.max()) <= 1.0
    assert len(objects) == len(verified.found)


@pytest.mark.parametrize(("aim", "sign"), [("vanish", -1), ("fabricate", 1)], ids=["vanish", "fabricate"])
@pytest.mark.parametrize("on_objects", [False, True], ids=["middle", "objects"])
def test_the_patch_on_a_known_detector_is_the_closed_form(aim: DetectionAim, sign: int, on_objects: bool) -> None:
    """To hide, black where a pixel's weight is positive and white where it is negative; to fake, the reverse."""
    draw = torch.Generator().manual_seed(0)
    weight = torch.randn(3, SIDE, SIDE, generator=draw) * 0.05
    detector = DetectorUnderTest(WeighedForm(weight), classes=("thing",), input_shape=(3, SIDE, SIDE), device="cpu")
    boxes = _there([[4, 4, 12, 12]])  # a quarter of the image: its own middle, and on no box by .5
    batch = _batch(torch.rand(12, 3, SIDE, SIDE, generator=draw), [boxes] * 12)
    threat = PatchOnObjects(0.25, batch.objects or ()) if on_objects else PatchThreat(1 / 16)
    paint = detector_patch(detector, batch, threat, _draws(batch), aim=aim, steps=60, images_a_step=4)
    painted = threat.painted(batch.images, paint)
    inside = threat.inside(batch.images)[0].expand(3, SIDE, SIDE)
    assert int(inside[0].sum()) == 16
    best = torch.where(weight * sign > 0, 1.0, 0.0)
    assert torch.allclose(painted[0][inside], best[inside], atol=1e-5)


@pytest.mark.parametrize("on_objects", [False, True], ids=["middle", "objects"])
def test_a_patch_is_the_same_again_and_leaves_the_detector_as_it_was(on_objects: bool) -> None:
    detector = wrapped_detector("fcos-small")
    batch = _batch(noise_images(4), some_objects(2, 0, 1, 3))
    threat = PatchOnObjects(0.2, batch.objects or ()) if on_objects else PatchThreat(0.1)
    before, calls = detector.fingerprint(), []
    with detector.count() as counter:
        paint = detector_patch(
            detector, batch, threat, _draws(batch), lambda: calls.append(1), steps=3, images_a_step=2
        )
    assert counter.backwards == 6 and counter.forwards == 6 and len(calls) == 3
    assert detector.fingerprint() == before
    assert torch.equal(paint, detector_patch(detector, batch, threat, _draws(batch), steps=3, images_a_step=2))
    assert float(paint.min()) >= 0 and float(paint.max()) <= 1
    order = torch.tensor([2, 0, 3, 1])
    shuffled = batch.select(order)
    there = replace(threat, objects=shuffled.objects or ()) if isinstance(threat, PatchOnObjects) else threat
    moved = detector_patch(detector, shuffled, there, _draws(shuffled), steps=3, images_a_step=2)
    assert float(((moved - paint).abs() > 1e-4).float().mean()) < 0.01  # rounding may turn a sign
