"""Random objects and detections with ties, crowds, twins and empty images."""

from __future__ import annotations

import numpy as np

from audit.core.boxes import PackedDetections, PackedObjects


def random_objects(rng: np.random.Generator, images: int, classes: int) -> PackedObjects:
    """Objects of all sizes; an image in four has none, an object in six is a crowd."""
    counts = rng.integers(0, 6, images) * (rng.random(images) > 0.25)
    total = int(counts.sum())
    corner = rng.integers(0, 200, (total, 2))
    span = rng.choice([8, 20, 50, 90, 140], (total, 2))
    boxes = np.concatenate([corner, corner + span], axis=1).astype(np.float32)
    areas = (span.prod(1) * rng.choice([1.0, 0.7], total)).astype(np.float32)
    return PackedObjects(
        counts.astype(np.int64), boxes, rng.integers(0, classes, total), areas, rng.random(total) < 1 / 6
    )


def random_detections(rng: np.random.Generator, objects: PackedObjects, classes: int) -> PackedDetections:
    """Objects found, off by a little, twice or as another class, and boxes of nothing with lower scores; many ties."""
    counts: list[int] = []
    likely = [np.zeros(0, bool)]
    boxes, labels = [np.zeros((0, 4))], [np.zeros(0, np.int64)]
    for image in range(len(objects.counts)):
        rows = objects.rows(image)
        chosen = rng.integers(rows.start, rows.stop, rng.integers(0, 7)) if rows.stop > rows.start else np.zeros(0, int)
        moved = objects.boxes[chosen] + rng.choice([0, 0, 0, 0, 1, 2, 6], (len(chosen), 1)) * rng.choice(
            [-1, 0, 1], (len(chosen), 4)
        )
        stray = rng.integers(0, 150, (rng.integers(0, 4), 2))
        found = np.concatenate([moved, np.concatenate([stray, stray + 30], axis=1)])
        found[:, 2:] = np.maximum(found[:, 2:], found[:, :2] + 1)
        right = np.where(rng.random(len(chosen)) < 0.8, objects.labels[chosen], rng.integers(0, classes, len(chosen)))
        counts.append(len(found))
        likely.append(np.repeat([True, False], [len(chosen), len(stray)]))
        boxes.append(found)
        labels.append(np.concatenate([right, rng.integers(0, classes, len(stray))]))
    total = sum(counts)
    scores = np.minimum(rng.integers(0, 11, total) + 4 * np.concatenate(likely), 10) / 10
    image = np.repeat(np.arange(len(counts)), counts)
    order = np.lexsort((-scores, image))
    return PackedDetections(
        np.array(counts, np.int64),
        np.concatenate(boxes)[order].astype(np.float32),
        np.concatenate(labels)[order].astype(np.int64),
        scores[order].astype(np.float32),
    )


def the_truth(objects: PackedObjects) -> PackedDetections:
    """Detections that are the objects, crowds apart, each with score 1."""
    single = ~objects.crowd
    image = np.repeat(np.arange(len(objects.counts)), objects.counts)[single]
    counts = np.bincount(image, minlength=len(objects.counts))
    scores = np.ones(int(single.sum()), np.float32)
    return PackedDetections(counts, objects.boxes[single], objects.labels[single], scores)


def repeated(packed: PackedObjects | PackedDetections, images: np.ndarray) -> dict[str, np.ndarray]:
    """The fields of some images, some of them several times."""
    rows = np.concatenate(
        [np.zeros(0, np.int64), *(np.arange(packed.rows(i).start, packed.rows(i).stop) for i in images)]
    )
    return {n: value[images] if n == "counts" else value[rows.astype(np.int64)] for n, value in vars(packed).items()}
