"""JPEG's lossy half as tensor operations: colour planes, 4:2:0 subsampling, quantised 8 x 8 cosine transforms.

The entropy coding that follows loses nothing and is left out. Tables: ITU-T T.81, annex K, scaled by quality as the
Independent JPEG Group's library does.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from audit.core.types import Images

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
    """Images coded and decoded at `quality` 1 to 100; each channel by itself unless there are three."""
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
