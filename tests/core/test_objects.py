"""Objects and detections survive packing into arrays and back."""

import torch

from audit.core.boxes import PackedDetections, PackedObjects
from audit.core.objects import Detections, Objects, pack_detections, pack_objects, unpack_detections, unpack_objects


def _objects(count: int) -> Objects:
    corner = torch.arange(count, dtype=torch.float32)[:, None].repeat(1, 2)
    boxes = torch.cat([corner, corner + 2], dim=1)
    return Objects(boxes, torch.arange(count), torch.full((count,), 4.0), torch.arange(count) % 2 == 1)


def test_objects_of_images_with_and_without_any_come_back() -> None:
    images = [_objects(2), _objects(0), _objects(3)]
    packed = pack_objects(images)
    stored = PackedObjects.of(packed.arrays("objects"), "objects")
    for image, back in zip(images, unpack_objects(stored), strict=True):
        assert all(torch.equal(getattr(image, name), getattr(back, name)) for name in vars(image))
    assert stored.labels[stored.rows(2)].tolist() == [0, 1, 2]
    assert stored.labels[stored.rows(1)].size == 0


def test_detections_come_back() -> None:
    boxes = torch.tensor([[0.0, 0.0, 1.0, 2.0]])
    images = [
        Detections(boxes[:0], torch.zeros(0, dtype=torch.int64), torch.zeros(0)),
        Detections(boxes, torch.tensor([4]), torch.tensor([0.25])),
    ]
    packed = pack_detections(images)
    back = unpack_detections(PackedDetections.of(packed.arrays("found"), "found"))
    assert [len(image) for image in back] == [0, 1]
    assert torch.equal(back[1].boxes, boxes)
    assert back[1].scores.item() == 0.25
    assert packed.counts.tolist() == [0, 1]


def test_no_image_packs_to_empty_arrays_of_the_right_kinds() -> None:
    packed = pack_objects([])
    assert packed.boxes.shape == (0, 4)
    assert packed.crowd.dtype == bool
