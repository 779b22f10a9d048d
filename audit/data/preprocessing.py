"""How arrays of images are prepared: the middle cut out; those for evaluation turned and mirrored."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import affine_grid, grid_sample

from audit.data.dataset import Dataset, Split, derive_fingerprint

Flip = Literal["none", "horizontal", "vertical"]


@dataclass(frozen=True)
class Preprocessing:
    """`crop` the side of the middle square that is kept, a share of the shorter side, of training images too, as both
    must have one size; then, of evaluation images alone, `rotate` in degrees counter-clockwise, edges repeated outside,
    and `flip`, which mirrors left and right (horizontal) or top and bottom (vertical)."""

    crop: float | None = None
    rotate: float = 0.0
    flip: Flip = "none"


def apply_preprocessing(dataset: Dataset, wish: Preprocessing) -> Dataset:
    """`dataset` as wished, masks along with their images; unchanged where nothing is asked."""
    if wish == Preprocessing():
        return dataset
    train = replace(wish, rotate=0.0, flip="none")
    channels, *sides = dataset.shape
    side = None if wish.crop is None else _side(wish.crop, sides)
    return replace(
        dataset,
        shape=dataset.shape if side is None else (channels, side, side),
        test=_prepared(dataset.test, wish),
        train=None if dataset.train is None else _prepared(dataset.train, train),
        notes=(*dataset.notes, *_told(wish, side)),
    )


def _side(crop: float, sides: Sequence[int]) -> int:
    return max(1, round(crop * min(sides)))


def _told(wish: Preprocessing, side: int | None) -> list[str]:
    said = [] if side is None else [f"The middle {side}x{side} pixels of every image are used."]
    if wish.rotate:
        said.append(f"Evaluation images are turned by {wish.rotate:g} degrees counter-clockwise.")
    if wish.flip != "none":
        sides = "left and right" if wish.flip == "horizontal" else "top and bottom"
        said.append(f"Evaluation images are mirrored: {sides} change places.")
    return said


def _prepared(split: Split, wish: Preprocessing) -> Split:
    if wish == Preprocessing():
        return split
    masks = split.masks

    def fetch(index: NDArray[np.int64]) -> NDArray[np.uint8] | NDArray[np.float32]:
        before = split.fetch(index)
        after = transform_images(torch.from_numpy(np.ascontiguousarray(before)).to(torch.float32), wish, "bilinear")
        if before.dtype == np.uint8:
            return np.asarray(after.round().clamp(0, 255).to(torch.uint8).numpy())
        return np.asarray(after.numpy())

    def marked(index: NDArray[np.int64]) -> NDArray[np.bool_]:
        assert masks is not None
        before = torch.from_numpy(np.ascontiguousarray(masks(index)))[:, None].to(torch.float32)
        return np.asarray(transform_images(before, wish, "nearest")[:, 0].numpy() > 0.5)

    return replace(
        split,
        fetch=fetch,
        fingerprint=derive_fingerprint(split.fingerprint, "prepared", wish.crop, wish.rotate, wish.flip),
        masks=None if masks is None else marked,
    )


def transform_images(images: Tensor, wish: Preprocessing, mode: Literal["bilinear", "nearest"] = "bilinear") -> Tensor:
    """Images (N, C, H, W), cropped, turned and mirrored in this order."""
    if wish.crop is not None:
        side = _side(wish.crop, images.shape[2:])
        top, left = ((whole - side) // 2 for whole in images.shape[2:])
        images = images[:, :, top : top + side, left : left + side]
    if wish.rotate:
        images = _turned(images, wish.rotate, mode)
    if wish.flip != "none":
        images = images.flip(3 if wish.flip == "horizontal" else 2)
    return images.contiguous()


def _turned(images: Tensor, degrees: float, mode: Literal["bilinear", "nearest"]) -> Tensor:
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
