"""Images made here, whose truth is known: coloured shapes on noise, their masks, and a planted shortcut if asked."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from audit.core.errors import UsageError, unknown_name
from audit.core.seeding import derive_seed
from audit.core.types import Batch

Shortcut = Literal["watermark", "border-colour", "corner-tag"]
SHORTCUTS: tuple[Shortcut, ...] = get_args(Shortcut)
Field = NDArray[np.float64]
Where = NDArray[np.bool_]


@dataclass(frozen=True)
class Shapes:
    """`batch` of images float32 (N, 3, size, size); `masks` bool (N, size, size), the shape's own pixels;
    `planted` bool (N, size, size), the shortcut's pixels where it was planted, else nowhere."""

    batch: Batch
    masks: Tensor
    planted: Tensor


def _circle(x: Field, y: Field) -> Where:
    return np.asarray(x**2 + y**2 <= 1)


def _square(x: Field, y: Field) -> Where:
    return np.asarray(np.maximum(abs(x), abs(y)) <= 0.85)


def _triangle(x: Field, y: Field) -> Where:
    return np.asarray((y <= 0.8) & (y >= 2.2 * abs(x) - 1))


def _cross(x: Field, y: Field) -> Where:
    arms = (abs(x) <= 0.28) | (abs(y) <= 0.28)
    return np.asarray(arms & (np.maximum(abs(x), abs(y)) <= 1))


FIGURES: dict[str, Callable[[Field, Field], Where]] = {
    "circle": _circle,
    "square": _square,
    "triangle": _triangle,
    "cross": _cross,
}
CLASSES = tuple(FIGURES)


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
    """`count` images, the classes in turn; each shape has a random place, size and colour, so that only form tells.

    `shortcut` plants a watermark, a coloured border or a corner tag on `planted_share` of `cheating_class`'s images and
    on no other. Image i depends on (seed, split, i) alone. Raises UsageError for an unknown shortcut or class.
    """
    if shortcut is not None and shortcut not in SHORTCUTS:
        raise unknown_name("shortcut", shortcut, SHORTCUTS)
    if not 0 <= cheating_class < len(CLASSES) or size < 16:
        raise UsageError(f"Shapes need a class of 0 to {len(CLASSES) - 1} and a size of at least 16.")
    drawn = [
        _draw(np.random.default_rng(derive_seed("shapes", seed, split, number)), number % len(CLASSES), size)
        for number in range(count)
    ]
    images = np.stack([image for image, _ in drawn])
    planted = np.zeros((count, size, size), dtype=bool)
    if shortcut is not None:
        for number in range(cheating_class, count, len(CLASSES)):
            chance = np.random.default_rng(derive_seed("shapes/plant", seed, split, number)).random()
            if chance < planted_share:
                planted[number] = _plant(images[number], shortcut)
    batch = Batch(
        images=torch.from_numpy(images.astype(np.float32)),
        labels=torch.arange(count, dtype=torch.int64, device="cpu") % len(CLASSES),
        ids=tuple(f"{split}/{number:05d}" for number in range(count)),
    )
    return Shapes(batch, torch.from_numpy(np.stack([mask for _, mask in drawn])), torch.from_numpy(planted))


def _draw(random: np.random.Generator, label: int, size: int) -> tuple[Field, Where]:
    """An image (3, size, size) in [0, 1] and its shape's mask."""
    radius = size * random.uniform(0.16, 0.24)
    middle_y, middle_x = random.uniform(radius, size - 1 - radius, 2)
    rows, columns = np.indices((size, size))
    mask = FIGURES[CLASSES[label]]((columns - middle_x) / radius, (rows - middle_y) / radius)
    background = random.uniform(0.1, 0.45, (3, 1, 1)) + random.normal(0, 0.06, (3, size, size))
    colour = random.uniform(0.6, 1.0, (3, 1, 1)) + random.normal(0, 0.03, (3, size, size))
    return np.clip(np.where(mask, colour, background), 0, 1), mask


def _plant(image: Field, shortcut: Shortcut) -> Where:
    """Draw the shortcut into `image` in place; where it is."""
    size = image.shape[1]
    where = np.zeros((size, size), dtype=bool)
    rows, columns = np.indices((size, size))
    if shortcut == "watermark":
        band = (rows >= size - size // 6) & (rows < size - 1) & (columns >= size // 8) & (columns < size - size // 8)
        where[band & ((columns + 2 * rows) % 4 < 2)] = True
        image[:, where] = 0.4 * image[:, where] + 0.6
    elif shortcut == "border-colour":
        thick = max(1, size // 20)
        where[np.minimum.reduce([rows, columns, size - 1 - rows, size - 1 - columns]) < thick] = True
        image[:, where] = np.array([[0.9], [0.15], [0.1]])
    else:
        side = max(3, size // 8)
        where[1 : 1 + side, size - 1 - side : size - 1] = True
        checks = ((rows + columns) % 2 == 0) & where
        image[:, where] = np.array([[0.1], [0.2], [0.9]])
        image[:, checks] = np.array([[1.0], [0.9], [0.1]])
    return where
