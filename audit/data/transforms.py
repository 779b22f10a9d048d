"""Size and colour of images already in memory, changed as they are fetched."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import interpolate

from audit.data.dataset import Dataset, Fetch, Split, derive_fingerprint
from audit.data.options import LoadOptions

_LUMA = (0.299, 0.587, 0.114)
"""Rec. 601, as Pillow and TensorFlow turn colour into grey."""


def resize(dataset: Dataset, wish: LoadOptions) -> Dataset:
    """`dataset` in the size and colour asked for; unchanged when it already is."""
    channels, height, width = dataset.shape
    grey = wish.grayscale and channels == 3
    size = wish.image_size
    resize = size is not None and (height, width) != (size, size)
    if not grey and not resize:
        return dataset
    target = (size, size) if resize and size is not None else None
    note = f"Images resized from {height}x{width} to {size}x{size} (bilinear, antialiased)." if resize else ""
    return replace(
        dataset,
        shape=(1 if grey else channels, *(target or (height, width))),
        test=_changed(dataset.test, target, grey),
        train=_changed(dataset.train, target, grey) if dataset.train else None,
        notes=dataset.notes + ((note,) if note else ()) + (("Colour turned into grey.",) if grey else ()),
    )


def _changed(split: Split, target: tuple[int, int] | None, grey: bool) -> Split:
    return replace(
        split,
        fetch=_change(split.fetch, target, grey),
        fingerprint=derive_fingerprint(split.fingerprint, "fitted", target, grey),
    )


def _change(fetch: Fetch, target: tuple[int, int] | None, grey: bool) -> Fetch:
    def changed(index: NDArray[np.int64]) -> NDArray[np.uint8] | NDArray[np.float32]:
        before = fetch(index)
        pixels = torch.from_numpy(np.ascontiguousarray(before)).to(torch.float32)
        if grey:
            weights = torch.tensor(_LUMA, device="cpu").view(1, 3, 1, 1)
            pixels = (pixels * weights).sum(1, keepdim=True)
        if target is not None:
            pixels = interpolate(pixels, target, mode="bilinear", antialias=True, align_corners=False)
        if before.dtype == np.uint8:
            pixels = pixels.round().clamp(0, 255).to(torch.uint8)
        return pixels.numpy()

    return changed
