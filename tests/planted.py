"""Images of garments, and the ways to make copies of them."""

from __future__ import annotations

import io
from collections.abc import Callable
from functools import cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from audit.data.load import load_dataset

Pixels = NDArray[np.uint8]


@cache
def garments() -> tuple[Pixels, NDArray[np.int64]]:
    """3,000 images (N, 28, 28) of the sample with their labels, in a drawn order."""
    train = load_dataset("sample").train
    assert train is not None
    rows = np.random.default_rng(5).permutation(len(train))[:3000]
    return train.fetch(rows)[:, 0].astype(np.uint8), train.labels[rows]


def as_jpeg(image: Pixels) -> Pixels:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=75)
    return np.array(Image.open(buffer))


def rescaled(image: Pixels) -> Pixels:
    small = Image.fromarray(image).resize((24, 24), Image.Resampling.BILINEAR)
    return np.array(small.resize(image.shape[::-1], Image.Resampling.BILINEAR))


COPIES: dict[str, Callable[[Pixels], Pixels]] = {
    "exact": lambda image: image,
    "jpeg": as_jpeg,
    "rescaled": rescaled,
    "mirrored": lambda image: image[:, ::-1],
    "turned": lambda image: np.rot90(image),
    "mirrored-jpeg": lambda image: as_jpeg(np.ascontiguousarray(image[:, ::-1])),
}
