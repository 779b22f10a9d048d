"""Filters and warps the corruptions are made of: batched, on the images' device, edges replicated."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from audit.core.types import Images

_DIRECT = 81
"""Taps up to which a direct convolution is the faster one."""


def smooth(images: Images, sigma: float, truncate: float = 4.0) -> Images:
    """Gaussian blur of `sigma` pixels, the kernel cut at `truncate` sigmas.

    Args:
        images: Float32 (N, C, H, W) in [0, 1].
        sigma: Standard deviation in pixels.
        truncate: Where the kernel ends, in standard deviations.
    """
    radius = int(truncate * sigma + 0.5)
    if radius == 0:
        return images
    kernel = gaussian_kernel(sigma, radius, images)
    return convolve(convolve(images, kernel.view(1, -1)), kernel.view(-1, 1))


def gaussian_kernel(sigma: float, radius: int, like: Tensor) -> Tensor:
    """Normalised weights at -radius..radius, on the device of `like`.

    Args:
        sigma: Standard deviation in pixels.
        radius: Half the kernel's width, in pixels.
        like: A tensor on the device and of the type to use.
    """
    position = torch.arange(-radius, radius + 1, device=like.device, dtype=torch.float32)
    weights = torch.exp(-0.5 * (position / sigma) ** 2)
    return weights / weights.sum()


def convolve(images: Images, kernel: Tensor) -> Images:
    """Each channel filtered with a `kernel` (odd height, odd width) that is its own mirror image.

    Args:
        images: Float32 (N, C, H, W) in [0, 1].
        kernel: Weights, (odd height, odd width), their own mirror image.
    """
    height, width = kernel.shape
    planes = images.flatten(0, 1)[:, None]
    padded = F.pad(planes, (width // 2, width // 2, height // 2, height // 2), mode="replicate")
    convolved = F.conv2d(padded, kernel[None, None]) if kernel.numel() <= _DIRECT else _by_fourier(padded, kernel)
    return convolved.view_as(images)


def _by_fourier(padded: Tensor, kernel: Tensor) -> Tensor:
    size = padded.shape[-2:]
    spectrum = torch.fft.rfft2(padded) * torch.fft.rfft2(kernel, s=size)
    convolved: Tensor = torch.fft.irfft2(spectrum, s=size)
    return convolved[..., kernel.shape[0] - 1 :, kernel.shape[1] - 1 :]


def positions(images: Images) -> tuple[Tensor, Tensor]:
    """The row (H, 1) and the column (1, W) of each pixel, float32.

    Args:
        images: Float32 (N, C, H, W) in [0, 1].
    """
    height, width = images.shape[-2:]
    rows = torch.arange(height, device=images.device, dtype=torch.float32)
    columns = torch.arange(width, device=images.device, dtype=torch.float32)
    return rows[:, None], columns[None, :]


def picked(images: Images, rows: Tensor, columns: Tensor) -> Images:
    """Each pixel taken from the nearest place: `rows` and `columns` broadcast to (N, H, W).

    Args:
        images: Float32 (N, C, H, W) in [0, 1].
        rows: Where each pixel comes from, in pixels.
        columns: Where each pixel comes from, in pixels.
    """
    count, channels, height, width = images.shape
    position = rows.round().long().clamp(0, height - 1) * width + columns.round().long().clamp(0, width - 1)
    index = position.expand(count, height, width).reshape(count, 1, -1).expand(-1, channels, -1)
    return images.flatten(2).gather(2, index).view_as(images)


def warped(images: Images, rows: Tensor, columns: Tensor) -> Images:
    """Each pixel taken by bilinear interpolation, mirrored beyond the edges: `rows`, `columns` (N, H, W).

    Args:
        images: Float32 (N, C, H, W) in [0, 1].
        rows: Where each pixel comes from, in pixels.
        columns: Where each pixel comes from, in pixels.
    """
    height, width = images.shape[-2:]
    unit = [p * 2 / max(1, size - 1) - 1 for p, size in ((columns, width), (rows, height))]
    grid = torch.stack(unit, dim=-1).expand(len(images), -1, -1, -1)
    return F.grid_sample(images, grid, mode="bilinear", padding_mode="reflection", align_corners=True)


def zoomed(images: Images, factor: float) -> Images:
    """Magnified about the centre, of the same size.

    Args:
        images: Float32 (N, C, H, W) in [0, 1].
        factor: Of the enlargement, at least 1.
    """
    rows, columns = positions(images)
    height, width = images.shape[-2:]
    centre_row, centre_column = (height - 1) / 2, (width - 1) / 2
    rows = (centre_row + (rows - centre_row) / factor).expand(1, height, width)
    columns = (centre_column + (columns - centre_column) / factor).expand(1, height, width)
    return warped(images, rows, columns)


def streaked(images: Images, radius: float, sigma: float, degrees: Tensor) -> Images:
    """One-sided motion blur over 2 radius + 1 pixels along `degrees` (N,), weights falling with `sigma`.

    Args:
        images: Float32 (N, C, H, W) in [0, 1].
        radius: Half the streak's length, in pixels.
        sigma: Standard deviation in pixels.
        degrees: Its direction, one an image, (N,).
    """
    rows, columns = positions(images)
    angle = torch.deg2rad(degrees).view(-1, 1, 1)
    width = 2 * math.ceil(radius) + 1
    weights = [math.exp(-0.5 * (i / sigma) ** 2) for i in range(width)]
    blurred = torch.zeros_like(images)
    for i, weight in enumerate(weights):
        blurred += weight / sum(weights) * picked(images, rows + i * angle.sin(), columns + i * angle.cos())
    return blurred
