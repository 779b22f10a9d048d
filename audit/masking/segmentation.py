"""Segments: the contiguous pieces of an image that segment methods switch on and off together."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from audit.core.errors import UsageError
from audit.core.note import Note, note
from audit.core.types import Images, Segments

MIN_SEGMENTS = 5
"""Below this a segmentation says next to nothing about where: it is refined."""
COMPACTNESS = (0.1, 1.0, 10.0)
_TRIES = 4


@dataclass(frozen=True)
class Segmentation:
    """Segments of N images.

    Attributes:
        segments: int64 (N, H, W), numbered from 0 in each image.
        description: How they were made and how many there are, in words.
    """

    segments: Segments
    description: Note


def segment_images(images: Images) -> Segmentation:
    """A size-aware segmentation of each image, every segment contiguous.

    SLIC (Achanta et al. 2012) on the pixels, with about 2 x the fourth root of the pixel count segments: 10 at
    28x28 (few enough to enumerate), 29 at 224x224. Where the image gives fewer than five, compactness rises until it
    does, at last a grid; the description counts those images.

    Args:
        images: Float32 (N, C, H, W) in [0, 1].
    """
    segmented = [_segment(image) for image in images.detach().cpu().double().numpy()]
    segments = torch.from_numpy(np.stack([labels for labels, _ in segmented])).to(images.device)
    return Segmentation(segments, _description(segments, sum(few for _, few in segmented)))


def joined_description(segments: Segments, parts: Sequence[Note]) -> Note:
    """The description of segments that `segment_images` made some images at a time.

    Args:
        segments: All segments, int64 (N, H, W).
        parts: The descriptions of some images each.
    """
    return _description(segments, sum(int(str(part.values.get("few", 0))) for part in parts))


def _description(segments: Segments, refined: int) -> Note:
    span = _span(segments)
    if not refined:
        return note("segments_made", "slic, {span} segments an image", span=span)
    return note(
        "segments_refined",
        "slic, {span} segments an image; {few} refined, which gave fewer than {fewest}",
        span=span,
        few=refined,
        fewest=MIN_SEGMENTS,
    )


def target_count(height: int, width: int) -> tuple[int, int]:
    """How many segments to ask SLIC for, and the most to accept.

    Args:
        height: Of the image, in pixels.
        width: Of the image, in pixels.
    """
    target = max(MIN_SEGMENTS, int(2 * (height * width) ** 0.25))
    return target, target + max(1, target // 8)


def max_segments(height: int, width: int) -> int:
    """The most segments that `segment_images` may give an image, also by its grid.

    Args:
        height: Of the image, in pixels.
        width: Of the image, in pixels.
    """
    target, most = target_count(height, width)
    return max(most, _grid_side(target) ** 2)


def check_segments(segments: Tensor, images: Images) -> Segmentation:
    """The user's segments, numbered from 0 in each image; the description says where there are fewer than five.

    Args:
        segments: Integer (H, W), for all images, or (N, H, W).
        images: The images they are of, (N, C, H, W).

    Raises:
        UsageError: The segments are no integers, or of another shape.
    """
    height, width = images.shape[2:]
    if segments.is_floating_point() or segments.dtype == torch.bool:
        raise UsageError(f"segments must be integers, one number a pixel; {segments.dtype} given.")
    if tuple(segments.shape) not in ((height, width), (len(images), height, width)):
        raise UsageError(
            f"segments have shape {tuple(segments.shape)}, where ({height}, {width}) or ({len(images)}, {height}, "
            f"{width}) was expected."
        )
    each = segments.detach().cpu().broadcast_to(len(images), height, width).numpy()
    numbered = torch.from_numpy(np.stack([_renumber(labels) for labels in each])).to(images.device)
    few = bool((numbered.flatten(1).amax(1) + 1 < MIN_SEGMENTS).any())
    span = _span(numbered)
    if not few:
        return Segmentation(numbered, note("segments_given", "given, {span} segments an image", span=span))
    description = note(
        "segments_few",
        "given, {span} segments an image; fewer than {fewest} say little about where",
        span=span,
        fewest=MIN_SEGMENTS,
    )
    return Segmentation(numbered, description)


def _span(segments: Segments) -> Note | int:
    """The fewest and the most segments of an image: "9", or "8 to 11"."""
    counts = segments.flatten(1).amax(1) + 1
    fewest, most = int(counts.min()), int(counts.max())
    return fewest if fewest == most else note("range", "{low} to {high}", low=fewest, high=most)


def segments_to_pixels(values: list[Tensor], segments: Segments) -> Tensor:
    """Each segment's value on all its pixels, float32 (N, 1, H, W).

    Args:
        values: One vector (segments,) an image.
        segments: int64 (N, H, W), numbered from 0 in each image.
    """
    rows = [
        value.to(segments.device, torch.float32)[segment.flatten()].view(1, *segment.shape)
        for value, segment in zip(values, segments, strict=True)
    ]
    return torch.stack(rows)


def _segment(image: NDArray[np.float64]) -> tuple[NDArray[np.int64], bool]:
    """The segments of one image, and whether SLIC's first answer had too few.

    SLIC gives fewer segments than requested on plain images: request in proportion, then more compact ones.
    """
    target, most = target_count(*image.shape[1:])
    best: NDArray[np.int64] | None = None
    few: bool | None = None
    for compactness in COMPACTNESS:
        request = target
        for _ in range(_TRIES):
            labels = _slic(image, request, compactness)
            count = int(labels.max()) + 1
            few = count < MIN_SEGMENTS if few is None else few
            if MIN_SEGMENTS <= count <= most and (best is None or count > best.max() + 1):
                best = labels
            if count == target:
                break
            request = max(MIN_SEGMENTS, round(request * target / count), request + 1 if count < target else 0)
        if best is not None:
            return best, bool(few)
    return _grid(image.shape[1], image.shape[2], target), bool(few)


def _slic(image: NDArray[np.float64], count: int, compactness: float) -> NDArray[np.int64]:
    from skimage.segmentation import slic

    colour = image.shape[0] == 3
    options: dict[str, Any] = {"convert2lab": True, "compactness": 100 * compactness} if colour else {}
    options = {"compactness": compactness, "convert2lab": False} | options
    pixels = np.moveaxis(image, 0, -1)
    return _renumber(slic(pixels, n_segments=count, start_label=0, channel_axis=-1, **options))


def _grid(height: int, width: int, target: int) -> NDArray[np.int64]:
    side = _grid_side(target)
    rows = np.arange(height) * min(side, height) // height
    columns = np.arange(width) * min(side, width) // width
    return _renumber(rows[:, None] * side + columns[None])


def _grid_side(target: int) -> int:
    return max(3, math.isqrt(target))


def _renumber(labels: NDArray[Any]) -> NDArray[np.int64]:
    inverse = np.unique(labels, return_inverse=True)[1]
    return inverse.reshape(labels.shape).astype(np.int64)
