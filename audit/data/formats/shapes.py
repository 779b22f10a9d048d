"""Drawn images whose decisive pixels are known: coloured shapes on noise, perhaps with a planted shortcut."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Annotated, Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor

from audit.core.errors import UsageError, unknown_name
from audit.core.registry import data_format
from audit.core.seeding import derive_seed
from audit.core.types import Batch
from audit.data.arrays import array_split
from audit.data.dataset import Dataset, LoadOptions, Split, derive_fingerprint

Shortcut = Literal["watermark", "border-colour", "corner-tag"]
SHORTCUTS: tuple[Shortcut, ...] = get_args(Shortcut)
_Grid = NDArray[np.float64]
_Mask = NDArray[np.bool_]
_SMALLEST = 16


@dataclass(frozen=True)
class Shapes:
    """Drawn images with what is known of them.

    Attributes:
        batch: The images, float32 (N, 3, size, size) in [0, 1], with their labels and ids.
        masks: The pixels of each shape, bool (N, size, size).
        planted: The pixels of each planted shortcut, bool (N, size, size); none where nothing was planted.
    """

    batch: Batch
    masks: Tensor
    planted: Tensor


def _circle(x: _Grid, y: _Grid) -> _Mask:
    return np.asarray(x**2 + y**2 <= 1)


def _square(x: _Grid, y: _Grid) -> _Mask:
    return np.asarray(np.maximum(abs(x), abs(y)) <= 0.85)


def _triangle(x: _Grid, y: _Grid) -> _Mask:
    return np.asarray((y <= 0.8) & (y >= 2.2 * abs(x) - 1))


def _cross(x: _Grid, y: _Grid) -> _Mask:
    arms = (abs(x) <= 0.28) | (abs(y) <= 0.28)
    return np.asarray(arms & (np.maximum(abs(x), abs(y)) <= 1))


FIGURES: dict[str, Callable[[_Grid, _Grid], _Mask]] = {
    "circle": _circle,
    "square": _square,
    "triangle": _triangle,
    "cross": _cross,
}
SHAPE_NAMES = tuple(FIGURES)


@data_format()
def shapes(
    _argument: str,
    _options: LoadOptions,
    *,
    train: Annotated[int, Field(ge=4)] = 2000,
    test: Annotated[int, Field(ge=4)] = 1000,
    size: Annotated[int, Field(ge=_SMALLEST, le=1024)] = 32,
    seed: Annotated[int, Field(ge=0)] = 0,
    shortcut: Shortcut | None = None,
    cheating_class: Annotated[int, Field(ge=0, le=len(FIGURES) - 1)] = 0,
    planted_share: Annotated[float, Field(ge=0, le=1)] = 1.0,
) -> Dataset:
    """Circles, squares, triangles and crosses drawn here, with masks of the pixels that decide the class.

    Attributions can be compared with the masks, and a model trained on a planted shortcut shows whether the audit
    names it. The same settings give the same images on every machine.

    Args:
        train: Number of training images.
        test: Number of test images.
        size: Height and width in pixels.
        seed: Root of every random draw.
        shortcut: What is planted in the images of one class: watermark, border-colour or corner-tag; None for
            nothing.
        cheating_class: The class it is planted in.
        planted_share: Share of that class's images, in [0, 1], that get it.
    """

    def split(count: int, name: str) -> Split:
        generated = make_shapes(
            count,
            size=size,
            shortcut=shortcut,
            cheating_class=cheating_class,
            planted_share=planted_share,
            split=name,
            seed=seed,
        )
        masks = generated.masks.numpy()
        images, labels = generated.batch.images.numpy(), generated.batch.labels.numpy()
        plain = array_split(images, labels, name=name, classes=len(SHAPE_NAMES), source="shapes")
        fingerprint = derive_fingerprint(
            plain.fingerprint, "masks", hashlib.sha256(np.packbits(masks).tobytes()).hexdigest()
        )
        return replace(plain, fingerprint=fingerprint, masks=lambda index: masks[index])

    name = f"shapes with a {shortcut}" if shortcut else "shapes"
    return Dataset(name, SHAPE_NAMES, (3, size, size), split(test, "test"), split(train, "train"))


def make_shapes(
    count: int,
    *,
    size: int = 32,
    shortcut: Shortcut | None = None,
    cheating_class: int = 0,
    planted_share: float = 1.0,
    split: str = "train",
    seed: int = 0,
) -> Shapes:
    """Draw images of the classes in turn; position, size and colour are random, so that only the form tells the class.

    Image i depends on `seed`, `split` and i alone.

    Args:
        count: Number of images.
        size: Height and width in pixels, at least 16.
        shortcut: What is planted in the images of `cheating_class`: a watermark, a coloured border or a corner tag.
        cheating_class: The class it is planted in.
        planted_share: Share of that class's images, in [0, 1], that get it.
        split: Name of the part; images of two parts differ.
        seed: Root of every random draw.

    Raises:
        UsageError: For an unknown shortcut or class, or a size below 16.
    """
    if shortcut is not None and shortcut not in SHORTCUTS:
        raise unknown_name("shortcut", shortcut, SHORTCUTS)
    if not 0 <= cheating_class < len(SHAPE_NAMES) or size < _SMALLEST:
        raise UsageError(f"Shapes need a class of 0 to {len(SHAPE_NAMES) - 1} and a size of at least {_SMALLEST}.")
    pairs = [
        _draw_shape(np.random.default_rng(derive_seed("shapes", seed, split, number)), number % len(SHAPE_NAMES), size)
        for number in range(count)
    ]
    images = np.stack([image for image, _ in pairs])
    planted = np.zeros((count, size, size), dtype=bool)
    if shortcut is not None:
        for number in range(cheating_class, count, len(SHAPE_NAMES)):
            chance = np.random.default_rng(derive_seed("shapes/plant", seed, split, number)).random()
            if chance < planted_share:
                planted[number] = _plant(images[number], shortcut)
    batch = Batch(
        images=torch.from_numpy(images.astype(np.float32)),
        labels=torch.arange(count, dtype=torch.int64, device="cpu") % len(SHAPE_NAMES),
        ids=tuple(f"{split}/{number:05d}" for number in range(count)),
    )
    return Shapes(batch, torch.from_numpy(np.stack([mask for _, mask in pairs])), torch.from_numpy(planted))


def _draw_shape(random: np.random.Generator, label: int, size: int) -> tuple[_Grid, _Mask]:
    """An image (3, size, size) in [0, 1] and its shape's mask."""
    radius = size * random.uniform(0.16, 0.24)
    middle_y, middle_x = random.uniform(radius, size - 1 - radius, 2)
    rows, columns = np.indices((size, size))
    mask = FIGURES[SHAPE_NAMES[label]]((columns - middle_x) / radius, (rows - middle_y) / radius)
    background = random.uniform(0.1, 0.45, (3, 1, 1)) + random.normal(0, 0.06, (3, size, size))
    colour = random.uniform(0.6, 1.0, (3, 1, 1)) + random.normal(0, 0.03, (3, size, size))
    return np.clip(np.where(mask, colour, background), 0, 1), mask


def _plant(image: _Grid, shortcut: Shortcut) -> _Mask:
    """Draw the shortcut into `image`, changing it; its pixels are returned, bool (size, size)."""
    size = image.shape[1]
    pixels = np.zeros((size, size), dtype=bool)
    rows, columns = np.indices((size, size))
    if shortcut == "watermark":
        band = (rows >= size - size // 6) & (rows < size - 1) & (columns >= size // 8) & (columns < size - size // 8)
        pixels[band & ((columns + 2 * rows) % 4 < 2)] = True
        image[:, pixels] = 0.4 * image[:, pixels] + 0.6
    elif shortcut == "border-colour":
        thick = max(1, size // 20)
        pixels[np.minimum.reduce([rows, columns, size - 1 - rows, size - 1 - columns]) < thick] = True
        image[:, pixels] = np.array([[0.9], [0.15], [0.1]])
    else:
        side = max(3, size // 8)
        pixels[1 : 1 + side, size - 1 - side : size - 1] = True
        checks = ((rows + columns) % 2 == 0) & pixels
        image[:, pixels] = np.array([[0.1], [0.2], [0.9]])
        image[:, checks] = np.array([[1.0], [0.9], [0.1]])
    return pixels
