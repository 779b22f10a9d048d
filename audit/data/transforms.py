"""Images changed as they are fetched: resized, turned grey, cropped, rotated and mirrored, with their masks."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import affine_grid, grid_sample, interpolate

from audit.core.image_options import Interpolation
from audit.core.note import Note, note
from audit.data.dataset import Dataset, LoadOptions, Split, derive_fingerprint
from audit.data.resizing import filter_words, resize_images

Flip = Literal["none", "horizontal", "vertical"]
Filter = Literal["bilinear", "nearest"]

_LUMA = (0.299, 0.587, 0.114)
"""Weights of red, green and blue (ITU-R BT.601), as Pillow and TensorFlow turn colour into grey."""


@dataclass(frozen=True)
class Preprocessing:
    """Geometric changes of images, made in the order crop, rotate, flip.

    Attributes:
        crop: Side of the centred square that is cut out, as a share of the shorter side in (0, 1]; None for the whole
            image. Training images are cropped too, because both parts must have one size.
        rotate: Degrees counter-clockwise by which evaluation images are rotated, edge pixels repeated outside.
        flip: How evaluation images are mirrored: left and right (horizontal), or top and bottom (vertical).
    """

    crop: float | None = None
    rotate: float = 0.0
    flip: Flip = "none"


def resize(dataset: Dataset, options: LoadOptions) -> Dataset:
    """Resize the images of `dataset` and turn them grey, as `options` ask; masks are resized along.

    Args:
        dataset: The data set.
        options: `image_size`, `grayscale` and `interpolation` are used.

    Returns:
        The data set whose images are changed as they are fetched; `dataset` itself when nothing changes.
    """
    channels, height, width = dataset.shape
    grey = options.grayscale and channels == 3
    size = options.image_size
    target = (size, size) if size is not None and (height, width) != (size, size) else None
    if not grey and target is None:
        return dataset
    resized = note(
        "data_resized_all",
        "Images resized from {before} to {after} ({filter}).",
        before=f"{height}x{width}",
        after=f"{size}x{size}",
        filter=filter_words(options.interpolation),
    )
    greyed = note("data_to_grey", "Colour turned into grey.")
    return replace(
        dataset,
        shape=(1 if grey else channels, *(target or (height, width))),
        test=_resized(dataset.test, target, grey, options.interpolation),
        train=_resized(dataset.train, target, grey, options.interpolation) if dataset.train else None,
        notes=dataset.notes + ((resized,) if target else ()) + ((greyed,) if grey else ()),
    )


def apply_preprocessing(dataset: Dataset, preprocessing: Preprocessing) -> Dataset:
    """Crop, rotate and flip the images of `dataset`, and their masks, as they are fetched.

    Args:
        dataset: The data set.
        preprocessing: The changes; training images are cropped alone.

    Returns:
        The changed data set; `dataset` itself when `preprocessing` changes nothing.
    """
    if preprocessing == Preprocessing():
        return dataset
    crop_only = replace(preprocessing, rotate=0.0, flip="none")
    channels, *sides = dataset.shape
    side = None if preprocessing.crop is None else _crop_side(preprocessing.crop, sides)
    return replace(
        dataset,
        shape=dataset.shape if side is None else (channels, side, side),
        test=_preprocessed(dataset.test, preprocessing),
        train=None if dataset.train is None else _preprocessed(dataset.train, crop_only),
        notes=(*dataset.notes, *_notes(preprocessing, side)),
    )


def transform_images(images: Tensor, preprocessing: Preprocessing, mode: Filter = "bilinear") -> Tensor:
    """Crop, rotate and flip images, in this order.

    Args:
        images: Float images (N, C, H, W).
        preprocessing: The changes.
        mode: The filter of rotations; "nearest" is for masks, which get 0 outside the image.

    Returns:
        The images (N, C, H', W'), H' and W' being smaller where they were cropped.
    """
    if preprocessing.crop is not None:
        side = _crop_side(preprocessing.crop, images.shape[2:])
        top, left = ((length - side) // 2 for length in images.shape[2:])
        images = images[:, :, top : top + side, left : left + side]
    if preprocessing.rotate:
        images = _rotated(images, preprocessing.rotate, mode)
    if preprocessing.flip != "none":
        images = images.flip(3 if preprocessing.flip == "horizontal" else 2)
    return images.contiguous()


def _resized(split: Split, target: tuple[int, int] | None, grey: bool, interpolation: Interpolation | None) -> Split:
    def change(images: Tensor) -> Tensor:
        if grey:
            images = (images * torch.tensor(_LUMA, device="cpu").view(1, 3, 1, 1)).sum(1, keepdim=True)
        if target is not None:
            images = resize_images(images, target, interpolation)
        return images

    def change_masks(masks: Tensor) -> Tensor:
        return masks if target is None else interpolate(masks, target, mode="nearest-exact")

    other = () if interpolation in (None, "bilinear") or target is None else (interpolation,)
    fingerprint = derive_fingerprint(split.fingerprint, "fitted", target, grey, *other)
    return _changed(split, change, change_masks, fingerprint)


def _preprocessed(split: Split, preprocessing: Preprocessing) -> Split:
    if preprocessing == Preprocessing():
        return split
    changes = (preprocessing.crop, preprocessing.rotate, preprocessing.flip)
    return _changed(
        split,
        lambda images: transform_images(images, preprocessing, "bilinear"),
        lambda masks: transform_images(masks, preprocessing, "nearest"),
        derive_fingerprint(split.fingerprint, "prepared", *changes),
    )


def _changed(
    split: Split, change: Callable[[Tensor], Tensor], change_masks: Callable[[Tensor], Tensor], fingerprint: str
) -> Split:
    """`split` with `change` applied to float32 (N, C, H, W) pixels, in 0..255 where they are uint8."""
    masks = split.masks

    def fetch(index: NDArray[np.int64]) -> NDArray[np.uint8] | NDArray[np.float32]:
        before = split.fetch(index)
        after = change(torch.from_numpy(np.ascontiguousarray(before)).to(torch.float32))
        if before.dtype == np.uint8:
            return np.asarray(after.round().clamp(0, 255).to(torch.uint8).numpy())
        return np.asarray(after.clamp(0, 1).numpy())

    def fetch_masks(index: NDArray[np.int64]) -> NDArray[np.bool_]:
        assert masks is not None
        before = torch.from_numpy(np.ascontiguousarray(masks(index)))[:, None].to(torch.float32)
        return np.asarray(change_masks(before)[:, 0].numpy() > 0.5)

    return replace(split, fetch=fetch, fingerprint=fingerprint, masks=None if masks is None else fetch_masks)


def _crop_side(crop: float, sides: Sequence[int]) -> int:
    return max(1, round(crop * min(sides)))


def _rotated(images: Tensor, degrees: float, mode: Filter) -> Tensor:
    """Quarter turns of squares, and half turns, exactly; other angles resampled, edges repeated (0 in masks)."""
    height, width = images.shape[2:]
    quarters = degrees / 90
    if quarters == round(quarters) and (height == width or round(quarters) % 2 == 0):
        return images.rot90(round(quarters), (2, 3))
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    # From output to input positions in [-1, 1] of each side, so the turn of pixels is stretched into them.
    matrix = torch.tensor([[cos, -sin * height / width, 0.0], [sin * width / height, cos, 0.0]], device="cpu")
    grid = affine_grid(matrix.expand(len(images), 2, 3), list(images.shape), align_corners=False)
    padding = "border" if mode == "bilinear" else "zeros"
    return grid_sample(images, grid, mode=mode, padding_mode=padding, align_corners=False)


def _notes(preprocessing: Preprocessing, side: int | None) -> Iterator[Note]:
    if side is not None:
        yield note("data_middle", "The middle {size} pixels of every image are used.", size=f"{side}x{side}")
    if preprocessing.rotate:
        yield note(
            "data_turned",
            "Evaluation images are turned by {degrees} degrees counter-clockwise.",
            degrees=f"{preprocessing.rotate:g}",
        )
    if preprocessing.flip != "none":
        sides = "left and right" if preprocessing.flip == "horizontal" else "top and bottom"
        yield note("data_mirrored", "Evaluation images are mirrored: {sides} change places.", sides=[sides])
