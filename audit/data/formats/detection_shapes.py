"""Drawn images for detectors: several shapes an image, every box known, perhaps with a marker beside one class."""

from __future__ import annotations

import hashlib
from typing import Annotated

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field

from audit.core.objects import Objects
from audit.core.registry import data_format
from audit.core.seeding import derive_seed
from audit.data.dataset import Dataset, LoadOptions, Split
from audit.data.formats.shapes import FIGURES, SHAPE_NAMES
from audit.data.object_split import object_split

_EMPTY_SHARE = 0.05
"""Share of images without any object."""
_SMALLEST_RADIUS, _LARGEST_RADIUS = 0.1, 0.2
"""Of a shape, in units of the side of the image."""
_CONTRAST, _NOISE = (0.1, 0.2), 0.03
"""How far a shape's colour is from the ground's, and the noise of both, in units of pixel value: between three and six
times 8/255, the ball that detectors are usually attacked in. At contrasts of .15 to .9 a ball of 32/255 was needed to
break what was trained on them."""
_APART = 2
"""Least pixels between two boxes."""
_TRIES = 20
_MARKER = 5
"""Side of a marker in pixels."""


@data_format(boxes=True)
def detection_shapes(
    _argument: str,
    _options: LoadOptions,
    *,
    train: Annotated[int, Field(ge=2)] = 2000,
    test: Annotated[int, Field(ge=1)] = 300,
    size: Annotated[int, Field(ge=32, le=1024)] = 64,
    objects: Annotated[int, Field(ge=1, le=8)] = 4,
    seed: Annotated[int, Field(ge=0)] = 0,
    marker: bool = False,
    marked_class: Annotated[int, Field(ge=0, le=len(FIGURES) - 1)] = 0,
) -> Dataset:
    """Circles, squares, triangles and crosses drawn here, up to four an image, with their boxes.

    One image in twenty is empty. The same settings give the same images on every machine.

    Args:
        train: Number of training images.
        test: Number of test images.
        size: Height and width in pixels.
        objects: Most objects in an image.
        seed: Root of every random draw.
        marker: Whether a small checked square stands beside each object of one class: a shortcut to that class.
        marked_class: The class it stands beside.
    """

    def split(count: int, name: str) -> Split:
        drawn = [
            _draw_scene(
                np.random.default_rng(derive_seed("detection-shapes", seed, name, number)),
                size,
                objects,
                marked_class if marker else None,
            )
            for number in range(count)
        ]
        pixels = np.stack([image for image, _ in drawn])
        fingerprint = hashlib.sha256(pixels.tobytes()).hexdigest()
        ids = [f"{name}/{number:05d}" for number in range(count)]
        return object_split(ids, lambda index: pixels[index], [there for _, there in drawn], fingerprint)

    name = "detection shapes with a marker" if marker else "detection shapes"
    return Dataset(name, SHAPE_NAMES, (3, size, size), split(test, "test"), split(train, "train"))


def _draw_scene(
    random: np.random.Generator, size: int, most: int, marked: int | None
) -> tuple[NDArray[np.uint8], Objects]:
    """An image, uint8 (3, size, size), and its objects."""
    ground = random.uniform(0.25, 0.75, (3, 1, 1))
    image = ground + random.normal(0, _NOISE, (3, size, size))
    count = 0 if random.random() < _EMPTY_SHARE else int(random.integers(1, most + 1))
    boxes: list[list[float]] = []
    labels: list[int] = []
    areas: list[float] = []
    for _ in range(count):
        label = int(random.integers(len(SHAPE_NAMES)))
        mask = _free_place(random, label, size, boxes)
        if mask is None:
            continue
        contrast = random.choice([-1, 1]) * random.uniform(*_CONTRAST, (3, 1, 1))
        colour = ground + contrast + random.normal(0, _NOISE, (3, size, size))
        image = np.where(mask, colour, image)
        boxes.append(_box_of(mask))
        labels.append(label)
        areas.append(float(mask.sum()))
    for box, label in zip(boxes, labels, strict=True):
        if label == marked:
            _mark(image, box, size)
    there = Objects(
        torch.tensor(boxes, dtype=torch.float32, device="cpu").reshape(-1, 4),
        torch.tensor(labels, dtype=torch.int64, device="cpu"),
        torch.tensor(areas, dtype=torch.float32, device="cpu"),
        torch.zeros(len(boxes), dtype=torch.bool, device="cpu"),
    )
    return np.rint(np.clip(image, 0, 1) * 255).astype(np.uint8), there


def _free_place(
    random: np.random.Generator, label: int, size: int, boxes: list[list[float]]
) -> NDArray[np.bool_] | None:
    """The pixels of a shape that keeps apart from all boxes; None where no try found a place."""
    rows, columns = np.indices((size, size))
    for _ in range(_TRIES):
        radius = size * random.uniform(_SMALLEST_RADIUS, _LARGEST_RADIUS)
        middle_y, middle_x = random.uniform(radius, size - 1 - radius, 2)
        mask = FIGURES[SHAPE_NAMES[label]]((columns - middle_x) / radius, (rows - middle_y) / radius)
        x1, y1, x2, y2 = _box_of(mask)
        if all(
            x1 >= right + _APART or left >= x2 + _APART or y1 >= bottom + _APART or top >= y2 + _APART
            for left, top, right, bottom in boxes
        ):
            return mask
    return None


def _box_of(mask: NDArray[np.bool_]) -> list[float]:
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return [float(columns[0]), float(rows[0]), float(columns[-1] + 1), float(rows[-1] + 1)]


def _mark(image: NDArray[np.float64], box: list[float], size: int) -> None:
    """A checked square beside the upper right corner of a box, or its upper left one at the edge of the image."""
    left, top, right, _ = (int(value) for value in box)
    start = right + 1 if right + 1 + _MARKER <= size else max(0, left - 1 - _MARKER)
    rows, columns = np.indices((size, size))
    inside = (rows >= top) & (rows < top + _MARKER) & (columns >= start) & (columns < start + _MARKER)
    image[:, inside] = np.array([[0.1], [0.2], [0.9]])
    image[:, inside & ((rows + columns) % 2 == 0)] = np.array([[1.0], [0.9], [0.1]])
