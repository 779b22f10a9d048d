"""Pixels in place of the removed part of an image: the baseline of an attribution, the fill of a deletion."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from audit.core.errors import UsageError, unknown_name
from audit.core.note import Note, note
from audit.core.types import Images, Segments

Fill = float | str | Tensor
"""A number, a tensor that broadcasts to the images, or a name of `FILLS`."""
FILLS = ("mean", "blur", "segment-mean")


def fill_images(images: Images, fill: Fill, segments: Segments | None = None) -> Images:
    """The baseline of each image, float32 (N, C, H, W).

    Args:
        images: Float32 (N, C, H, W) in [0, 1].
        fill: A number in [0, 1]; a tensor that broadcasts to the images; `mean`, each image's own mean colour; `blur`,
            the image under a Gaussian of a tenth of its shorter side; or `segment-mean`, every segment's mean colour
            (LIME's).
        segments: int64 (N, H, W), for `segment-mean`.

    Raises:
        UsageError: The fill has a wrong shape, an unknown name, or a number that is not finite; or segments lack.
    """
    if isinstance(fill, Tensor):
        return _broadcast(fill, images)
    if isinstance(fill, str):
        return _named(images, fill, segments)
    if not torch.isfinite(torch.tensor(float(fill), device="cpu")):
        raise UsageError(f"The baseline {fill!r} is not finite; give a number in [0, 1], a tensor or a name.")
    return torch.full_like(images, float(fill))


def describe_fill(fill: Fill) -> Note | str:
    """A fill in words, for the report.

    Args:
        fill: See `fill_images`.
    """
    if isinstance(fill, Tensor):
        return note("baseline_given", "a given tensor of shape {shape}", shape=str(tuple(fill.shape)))
    return fill if isinstance(fill, str) else f"{float(fill):g}"


def _named(images: Images, name: str, segments: Segments | None) -> Images:
    if name == "mean":
        return images.mean((2, 3), keepdim=True).expand_as(images).contiguous()
    if name == "blur":
        return blur(images, min(images.shape[2:]) / 10)
    if name == "segment-mean" and segments is not None:
        return _segment_means(images, segments)
    if name == "segment-mean":
        raise UsageError("The baseline 'segment-mean' needs segments; give them, or use mean or blur.")
    raise unknown_name("baseline", name, FILLS)


def _broadcast(fill: Tensor, images: Images) -> Images:
    if not fill.is_floating_point() or not bool(torch.isfinite(fill).all()):
        raise UsageError("The baseline tensor must hold finite floats, in the images' range [0, 1].")
    try:
        return fill.to(images.device, images.dtype).broadcast_to(images.shape).contiguous()
    except RuntimeError:
        raise UsageError(
            f"The baseline has shape {tuple(fill.shape)}, which does not fit images of shape {tuple(images.shape)}: "
            "give one of the same shape, or one image (C, H, W) for all."
        ) from None


def blur(images: Images, sigma: float) -> Images:
    """Convolve images with a Gaussian, edges mirrored, (N, C, H, W).

    Args:
        images: Float (N, C, H, W).
        sigma: Its standard deviation, in pixels.
    """
    radius = max(1, min(round(3 * sigma), min(images.shape[2:]) - 1))
    offsets = torch.arange(-radius, radius + 1, device=images.device, dtype=images.dtype)
    kernel = (-(offsets**2) / (2 * sigma**2)).exp()
    kernel = (kernel / kernel.sum()).view(1, 1, -1)
    count, channels = images.shape[:2]
    flat = images.reshape(count * channels, 1, *images.shape[2:])
    flat = functional.pad(flat, (radius, radius, radius, radius), mode="reflect")
    flat = functional.conv2d(functional.conv2d(flat, kernel[..., None, :]), kernel[..., None])
    return flat.reshape(images.shape)


def _segment_means(images: Images, segments: Segments) -> Images:
    count, channels = images.shape[:2]
    index = segments.flatten(1)[:, None].expand(count, channels, -1)
    highest = int(segments.max()) + 1
    sums = torch.zeros(count, channels, highest, device=images.device, dtype=images.dtype)
    sums = sums.scatter_add(2, index, images.flatten(2))
    sizes = torch.zeros_like(sums).scatter_add(2, index, torch.ones_like(images).flatten(2))
    return (sums / sizes.clamp(min=1)).gather(2, index).view_as(images)
