"""Deletion, insertion and pointing of found boxes, on a detector whose score is known."""

from __future__ import annotations

import pytest
import torch

from audit.core.objects import Detections
from audit.core.types import Images
from audit.metrics.detection_pointing import box_pointing, inside, mass_inside
from audit.metrics.detection_removal import box_order, box_removal_curves
from audit.models.detectors.form import DetectorForm
from audit.models.detectors.under_test import DetectorUnderTest

BOX = [2.0, 2.0, 6.0, 6.0]


class Sum(DetectorForm):
    """Finds one box, which scores the mean of the pixels in it."""

    gives_losses = gives_candidates = gives_gradients = False

    def detect(self, images: Images) -> list[Detections]:
        return [Detections(torch.tensor([BOX]), torch.tensor([0]), image[:, 2:6, 2:6].mean()[None]) for image in images]


def _detector() -> DetectorUnderTest:
    return DetectorUnderTest(Sum(), classes=("thing",), input_shape=(1, 8, 8), device="cpu")


def test_curves_by_hand() -> None:
    """Box first: a quarter of the pixels holds all of the score. Box last: nothing is lost before that quarter."""
    image, fill = torch.ones(1, 1, 8, 8), torch.zeros(1, 1, 8, 8)
    target = Detections(torch.tensor([BOX]), torch.tensor([0]), torch.ones(1))
    first = box_order(torch.tensor(BOX), torch.arange(64), (8, 8))
    orders = torch.stack([first, first.flip(0)])
    deletion = box_removal_curves(_detector(), image, target, orders, fill=fill, mode="deletion", steps=8)
    assert deletion.shape == (2, 1, 9)
    torch.testing.assert_close(deletion[0, 0], torch.tensor([1, 0.5, 0, 0, 0, 0, 0, 0, 0]))
    torch.testing.assert_close(deletion[1, 0], torch.tensor([1, 1, 1, 1, 1, 1, 1, 0.5, 0]))
    insertion = box_removal_curves(_detector(), image, target, orders, fill=fill, mode="insertion", steps=8)
    torch.testing.assert_close(insertion, 1 - deletion)


def test_the_ends_are_forwarded_once() -> None:
    detector, image = _detector(), torch.ones(1, 1, 8, 8)
    target = Detections(torch.tensor([BOX]), torch.tensor([0]), torch.ones(1))
    orders = torch.stack([torch.randperm(64, generator=torch.Generator().manual_seed(i)) for i in range(5)])
    with detector.count() as counter:
        box_removal_curves(detector, image, target, orders, fill=image * 0, mode="deletion", steps=10)
    assert counter.forwards == 2 + 5 * 9


def test_the_box_order_takes_the_box_first_then_by_distance() -> None:
    order = box_order(torch.tensor(BOX), torch.randperm(64, generator=torch.Generator().manual_seed(0)), (8, 8))
    rows, columns = order // 8, order % 8
    in_box = (rows >= 2) & (rows < 6) & (columns >= 2) & (columns < 6)
    assert bool(in_box[:16].all())
    assert sorted(order.tolist()) == list(range(64))
    assert set(order[-4:].tolist()) == {0, 7, 56, 63}  # the corners, two pixels off on both axes


@pytest.mark.parametrize(("row", "column", "hit"), [(3, 3, True), (2, 5, True), (6, 3, False), (0, 0, False)])
def test_pointing(row: int, column: int, hit: bool) -> None:
    one = torch.zeros(1, 8, 8)
    one[0, row, column] = 1.0
    assert box_pointing(one, torch.tensor([BOX])).tolist() == [hit]
    assert mass_inside(one, torch.tensor([BOX])).tolist() == [float(hit)]


def test_ties_must_all_lie_inside_and_flat_maps_have_the_boxs_share() -> None:
    boxes = torch.tensor([BOX])
    flat = torch.zeros(1, 8, 8)
    assert box_pointing(flat, boxes).tolist() == [False]
    assert mass_inside(flat, boxes).tolist() == [0.25]
    assert int(inside(boxes, flat).sum()) == 16
