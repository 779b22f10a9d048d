"""Digital: contrast, elastic deformation, pixelation, JPEG and saturation."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from audit.core.errors import NotApplicable
from audit.core.note import note
from audit.core.registry import corruption
from audit.core.seeding import Generators
from audit.core.types import Images
from audit.corruptions.colour import saturated
from audit.corruptions.filters import positions, smooth, warped
from audit.corruptions.strength import Strengths, side

_PAPER = "arXiv:1903.12261"

_CONTRAST = Strengths(small=(0.75, 0.5, 0.4, 0.3, 0.15), large=(0.4, 0.3, 0.2, 0.1, 0.05))
_PIXELATE = Strengths(small=(0.95, 0.9, 0.85, 0.75, 0.65), large=(0.6, 0.5, 0.4, 0.3, 0.25))
_JPEG = Strengths(small=(80, 65, 58, 50, 40), large=(25, 18, 15, 10, 7))
_SATURATE = Strengths(
    small=((0.8, 0), (0.7, 0), (1.5, 0), (2, 0.1), (2.5, 0.2)),
    large=((0.7, 0), (0.55, 0), (2, 0), (5, 0.1), (20, 0.2)),
)
"""Factor and offset: published from 3 on; the published 1 and 2 (0.3 and 0.1) pale more than the others exaggerate."""
_ELASTIC = Strengths(
    small=((0.05, 0.03, 0.02), (0.1, 0.03, 0.025), (0.15, 0.03, 0.03), (0.2, 0.03, 0.035), (0.25, 0.03, 0.04)),
    large=((0.02, 0.01, 0.01), (0.035, 0.01, 0.015), (0.05, 0.01, 0.02), (0.07, 0.01, 0.02), (0.12, 0.01, 0.02)),
)
"""Strength, smoothness and affine part as shares of the image's side. ImageNet-C's own at 3 to 5; its 1 and 2, and all
of CIFAR-10-C's, distort less as severity rises, so weaker steps of the same family stand in their place."""


@corruption(reference=_PAPER, group="digital")
def contrast(images: Images, severity: int, generators: Generators) -> Images:
    """Values drawn towards each channel's mean.

    Args:
        images: Float32 (N, C, H, W) in [0, 1].
        severity: How strong, 1 to 5.
        generators: One random generator an example.
    """
    factor = _CONTRAST.at(images, severity)
    mean = images.mean((2, 3), keepdim=True)
    return ((images - mean) * factor + mean).clamp(0, 1)


@corruption(reference=_PAPER, group="digital")
def elastic_transform(images: Images, severity: int, generators: Generators) -> Images:
    """A random affine map, then small smooth displacements.

    Args:
        images: Float32 (N, C, H, W) in [0, 1].
        severity: How strong, 1 to 5.
        generators: One random generator an example.
    """
    strength, sigma, affine = (share * side(images) for share in _ELASTIC.at(images, severity))
    rows, columns = _affine(images, affine, generators.fork(0))
    noise = generators.fork(1).uniform(2, *images.shape[-2:]) * 2 - 1
    moved = strength * smooth(noise, sigma, truncate=3)
    return warped(images, rows + moved[:, 0], columns + moved[:, 1]).clamp(0, 1)


@corruption(reference=_PAPER, group="digital")
def pixelate(images: Images, severity: int, generators: Generators) -> Images:
    """Shrunk by averaging, enlarged by repeating.

    Args:
        images: Float32 (N, C, H, W) in [0, 1].
        severity: How strong, 1 to 5.
        generators: One random generator an example.
    """
    share = _PIXELATE.at(images, severity)
    height, width = (max(1, int(size * share)) for size in images.shape[-2:])
    shrunk = _boxes(images.shape[-2], height, images) @ images @ _boxes(images.shape[-1], width, images).T
    return F.interpolate(shrunk, images.shape[-2:], mode="nearest-exact").clamp(0, 1)


@corruption(reference=_PAPER, group="digital")
def jpeg_compression(images: Images, severity: int, generators: Generators) -> Images:
    """Coded as JPEG and back.

    Args:
        images: Float32 (N, C, H, W) in [0, 1].
        severity: How strong, 1 to 5.
        generators: One random generator an example.
    """
    return jpeg(images, _JPEG.at(images, severity))


@corruption(reference=_PAPER, group="extra")
def saturate(images: Images, severity: int, generators: Generators) -> Images:
    """Colours paled (severities 1 and 2) or exaggerated. Raises NotApplicable unless there are three channels.

    Args:
        images: Float32 (N, C, H, W) in [0, 1].
        severity: How strong, 1 to 5.
        generators: One random generator an example.

    Raises:
        NotApplicable: For images that have no three channels.
    """
    if images.shape[1] != 3:
        raise NotApplicable(note("no_colour", "Saturation is a property of colour: the images have no three channels."))
    return saturated(images, *_SATURATE.at(images, severity)).clamp(0, 1)


def _boxes(size: int, fewer: int, like: Tensor) -> Tensor:
    """The matrix (fewer, size) that averages the pixels whose centre lies in each of `fewer` equal boxes."""
    centre = (torch.arange(size, device=like.device) + 0.5) * (fewer / size)
    inside = torch.nn.functional.one_hot(centre.long(), fewer).T.to(like.dtype)
    return inside / inside.sum(1, keepdim=True)


def _affine(images: Images, spread: float, generators: Generators) -> tuple[Tensor, Tensor]:
    """Where each pixel is taken from (N, H, W) when three points about the centre each move by up to `spread`."""
    rows, columns = positions(images)
    centre = [size // 2 for size in images.shape[-2:]]
    arm = side(images) // 3
    points = torch.tensor(
        [[centre[0] + r * arm, centre[1] + c * arm, 1] for r, c in ((1, 1), (1, -1), (-1, -1))],
        device=images.device,
        dtype=torch.float32,
    )
    moved = points[:, :2] + spread * (generators.uniform(3, 2) * 2 - 1)
    ends = torch.cat([moved, torch.ones_like(moved[..., :1])], dim=2)
    back = torch.linalg.solve(ends, points[:, :2].expand(len(moved), -1, -1))[..., None, None]
    source = rows * back[:, 0] + columns * back[:, 1] + back[:, 2]
    return source[:, 0], source[:, 1]


_LUMA = (
    (16, 11, 10, 16, 24, 40, 51, 61),
    (12, 12, 14, 19, 26, 58, 60, 55),
    (14, 13, 16, 24, 40, 57, 69, 56),
    (14, 17, 22, 29, 51, 87, 80, 62),
    (18, 22, 37, 56, 68, 109, 103, 77),
    (24, 35, 55, 64, 81, 104, 113, 92),
    (49, 64, 78, 87, 103, 121, 120, 101),
    (72, 92, 95, 98, 112, 100, 103, 99),
)
_CHROMA = (
    (17, 18, 24, 47, 99, 99, 99, 99),
    (18, 21, 26, 66, 99, 99, 99, 99),
    (24, 26, 56, 99, 99, 99, 99, 99),
    (47, 66, 99, 99, 99, 99, 99, 99),
    *((99,) * 8,) * 4,
)
_TO_YCC = ((0.299, 0.587, 0.114), (-0.168736, -0.331264, 0.5), (0.5, -0.418688, -0.081312))
_TO_RGB = ((1, 0, 1.402), (1, -0.344136, -0.714136), (1, 1.772, 0))


def jpeg(images: Images, quality: int) -> Images:
    """Images coded and decoded; each channel by itself unless there are three.

    Tables: ITU-T T.81, annex K, scaled by quality as the Independent JPEG Group's library does. The entropy coding that
    follows loses nothing and is left out.

    Args:
        images: Float32 (N, C, H, W) in [0, 1].
        quality: 1 to 100.
    """
    height, width = images.shape[-2:]
    levels = (images * 255).round()
    padded = F.pad(levels, (0, -width % 16, 0, -height % 16), mode="replicate")
    if images.shape[1] != 3:
        decoded = _coded(padded - 128, _LUMA, quality) + 128
    else:
        planes = _mixed(padded, _TO_YCC).round()
        luma = _coded(planes[:, :1] - 128, _LUMA, quality) + 128
        chroma = _coded(F.avg_pool2d(planes[:, 1:], 2).round(), _CHROMA, quality)
        chroma = F.interpolate(chroma, scale_factor=2, mode="bilinear", align_corners=False)
        decoded = _mixed(torch.cat([luma, chroma], dim=1), _TO_RGB)
    return decoded[..., :height, :width].round().clamp(0, 255) / 255


def _mixed(planes: Tensor, matrix: tuple[tuple[float, ...], ...]) -> Tensor:
    weights = torch.tensor(matrix, device=planes.device, dtype=planes.dtype)
    return torch.einsum("oc,nchw->nohw", weights, planes)


def _coded(plane: Tensor, table: tuple[tuple[int, ...], ...], quality: int) -> Tensor:
    """Blocks of 8 x 8 transformed, quantised and transformed back."""
    count, channels, height, width = plane.shape
    steps = _scaled(table, quality).to(plane.device)
    cosine = _cosine().to(plane.device)
    blocks = plane.view(count, channels, height // 8, 8, width // 8, 8).transpose(3, 4)
    coefficients = torch.round(cosine @ blocks @ cosine.T / steps) * steps
    return (cosine.T @ coefficients @ cosine).transpose(3, 4).reshape_as(plane).round()


def _scaled(table: tuple[tuple[int, ...], ...], quality: int) -> Tensor:
    percent = 5000 // quality if quality < 50 else 200 - 2 * quality
    base = torch.tensor(table, device="cpu", dtype=torch.float32)
    return ((base * percent + 50) / 100).floor().clamp(1, 255)


def _cosine() -> Tensor:
    """The orthonormal matrix of the cosine transform of 8 values."""
    k = torch.arange(8, device="cpu", dtype=torch.float32)
    matrix = torch.cos((2 * k[None, :] + 1) * k[:, None] * math.pi / 16) / 2
    matrix[0] /= math.sqrt(2)
    return matrix
