"""A data set: two splits of images that are fetched when needed, and the options that every format is loaded with."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from audit.core.image_options import Interpolation, PixelRange, Transparency
from audit.core.note import Note
from audit.core.objects import Objects
from audit.core.types import Batch

Fetch = Callable[[NDArray[np.int64]], NDArray[np.uint8] | NDArray[np.float32]]
"""`fetch(positions)` gives the images (M, C, H, W): uint8, or float32 in [0, 1]."""

FetchMasks = Callable[[NDArray[np.int64]], NDArray[np.bool_]]
"""`masks(positions)` gives the masks (M, H, W)."""

FetchObjects = Callable[[NDArray[np.int64]], tuple[Objects, ...]]
"""`objects(positions)` gives what is to be found in each image, M of them."""


@dataclass(frozen=True)
class Columns:
    """The columns of a table that lists images; None for the one of a usual name.

    Attributes:
        path: Of the images, or of their paths.
        label: Of the labels.
        split: Of the parts.
        mask: Of the paths of the masks.
    """

    path: str | None = None
    label: str | None = None
    split: str | None = None
    mask: str | None = None


NO_COLUMNS = Columns()
"""Every column is found by its name."""


@dataclass(frozen=True)
class LoadOptions:
    """The choices that are the same for every data format.

    Attributes:
        image_size: Height and width in pixels; None leaves the images as they are.
        grayscale: Give one channel instead of three.
        strict: Raise an error for an unreadable image, which is otherwise skipped, counted and listed.
        crop: Share in (0, 1] of the largest centred rectangle of the target's proportions that is kept; None squeezes
            the whole image into the target.
        interpolation: The filter of resizing, Pillow's name of it; None for bilinear.
        transparency: What becomes of transparent pixels: "drop" keeps the colour below; else the colour they are
            laid on.
        pixel_range: The values that are black and white in images of more than 8 bits; None finds them over the data.
        columns: The columns of a table of images.
    """

    image_size: int | None = None
    grayscale: bool = False
    strict: bool = False
    crop: float | None = None
    interpolation: Interpolation | None = None
    transparency: Transparency = "drop"
    pixel_range: PixelRange | None = None
    columns: Columns = NO_COLUMNS


@dataclass(frozen=True)
class Split:
    """One part of a data set, its images read by position.

    Attributes:
        labels: Class of each example, int64 (N,); 0 where an image has objects instead.
        ids: A stable name for each example: "test/00017", "cat/0001.jpg".
        fetch: Reads images by position.
        fingerprint: SHA-256 of the pixels, the labels, the masks and the objects.
        masks: Reads by position where the objects are; None where the data does not say.
        sizes: Height and width of each image as it lies in its file, int32 (N, 2); None where all are of one size.
        cohorts: By name of a column of the data's table, what it says of each example: numbers float64 (N,), NaN where
            it says nothing, or texts (N,), then "". No fingerprint depends on it.
        objects: Reads by position what is to be found in an image; None where it has one label alone.
    """

    labels: NDArray[np.int64]
    ids: tuple[str, ...]
    fetch: Fetch
    fingerprint: str
    masks: FetchMasks | None = None
    sizes: NDArray[np.int32] | None = None
    cohorts: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    objects: FetchObjects | None = None

    def __len__(self) -> int:
        return len(self.ids)

    def batch(self, positions: Sequence[int] | NDArray[np.int64] | slice) -> Batch:
        """Read the examples at `positions`.

        Args:
            positions: Positions in the split, (M,), or a slice of it.

        Returns:
            The examples on the CPU, their images float32 (M, C, H, W) in [0, 1].
        """
        index = np.arange(len(self))[positions] if isinstance(positions, slice) else np.asarray(positions, np.int64)
        pixels = torch.from_numpy(np.ascontiguousarray(self.fetch(index)))
        return Batch(
            images=pixels.to(torch.float32) / 255 if pixels.dtype == torch.uint8 else pixels,
            labels=torch.from_numpy(self.labels[index]),
            ids=tuple(self.ids[i] for i in index),
            masks=None if self.masks is None else torch.from_numpy(self.masks(index)),
            objects=None if self.objects is None else self.objects(index),
        )

    def subset(self, positions: NDArray[np.int64]) -> Split:
        """A split of some of the examples.

        Args:
            positions: Positions to keep, int64 (M,), in the order the subset has.
        """
        selected = np.ascontiguousarray(positions, dtype=np.int64)
        masks, objects = self.masks, self.objects
        return Split(
            labels=self.labels[selected],
            ids=tuple(self.ids[i] for i in selected),
            fetch=lambda index: self.fetch(selected[index]),
            fingerprint=derive_fingerprint(
                self.fingerprint, "subset", hashlib.sha256(selected.astype("<i8").tobytes()).hexdigest()
            ),
            masks=None if masks is None else lambda index: masks(selected[index]),
            sizes=None if self.sizes is None else self.sizes[selected],
            cohorts={name: values[selected] for name, values in self.cohorts.items()},
            objects=None if objects is None else lambda index: objects(selected[index]),
        )


def derive_fingerprint(fingerprint: str, *parts: object) -> str:
    """The fingerprint of images made from others.

    Args:
        fingerprint: That of the original images.
        parts: What was done to them; their `repr` is hashed.
    """
    return hashlib.sha256(repr((fingerprint, *parts)).encode()).hexdigest()


@dataclass(frozen=True)
class Dataset:
    """A data set of images with one label each, or with objects.

    Attributes:
        name: The source without any path.
        classes: Class names in label order.
        shape: (C, H, W) of every image.
        test: The evaluation part.
        train: The training part; None where there is none.
        notes: Sentences that say what was skipped, repaired or resized.
        pixel_range: The values that were taken for black and white; None where pixels were bytes or in [0, 1].
        training_alone: Whether `test` is a training part, as the source has no other; `load_dataset` then holds some of
            it out or refuses it.
        category_ids: The number that the annotations have for each class; None where they name it, or count from 0.
    """

    name: Note | str
    classes: tuple[str, ...]
    shape: tuple[int, int, int]
    test: Split
    train: Split | None = None
    notes: tuple[Note, ...] = ()
    pixel_range: PixelRange | None = None
    training_alone: bool = False
    category_ids: tuple[int, ...] | None = None

    @property
    def has_objects(self) -> bool:
        """Whether images have objects with boxes, for a detector, and not one label each."""
        return self.test.objects is not None
