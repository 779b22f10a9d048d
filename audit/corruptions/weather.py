"""Weather: snow, frost, fog, brightness and spatter."""

from __future__ import annotations

import torch
from torch import Tensor

from audit.core.precise import precise_device
from audit.core.registry import corruption
from audit.core.seeding import Generators
from audit.core.types import Images
from audit.corruptions.colour import brightened, grey
from audit.corruptions.filters import smooth, streaked, zoomed
from audit.corruptions.strength import Strengths, pixel_scale

_PAPER = "arXiv:1903.12261"

_SNOW = Strengths(
    small=(
        (0.1, 0.2, 1, 0.6, 8, 3, 0.95),
        (0.1, 0.2, 1, 0.5, 10, 4, 0.9),
        (0.15, 0.3, 1.75, 0.55, 10, 4, 0.9),
        (0.25, 0.3, 2.25, 0.6, 12, 6, 0.85),
        (0.3, 0.3, 1.25, 0.65, 14, 12, 0.8),
    ),
    large=(
        (0.1, 0.3, 3, 0.5, 10, 4, 0.8),
        (0.2, 0.3, 2, 0.5, 12, 4, 0.7),
        (0.55, 0.3, 4, 0.9, 12, 8, 0.7),
        (0.55, 0.3, 4.5, 0.85, 12, 8, 0.65),
        (0.55, 0.3, 2.5, 0.85, 12, 12, 0.55),
    ),
)
_FROST = Strengths(
    small=((1, 0.2), (1, 0.3), (0.9, 0.4), (0.85, 0.45), (0.75, 0.53)),
    large=((1, 0.4), (0.8, 0.6), (0.7, 0.7), (0.65, 0.73), (0.6, 0.78)),
)
"""Picture and ice. At 4 and 5 slightly more ice than published (0.40, 0.45; 0.70, 0.75): these crystals are sparser."""
_FOG = Strengths(
    small=((0.2, 3), (0.5, 3), (0.75, 2.5), (1, 2), (1.5, 1.75)),
    large=((1.5, 2), (2, 2), (2.5, 1.7), (2.5, 1.5), (3, 1.4)),
)
_BRIGHTNESS = Strengths(small=(0.05, 0.1, 0.15, 0.2, 0.3), large=(0.1, 0.2, 0.3, 0.4, 0.5))
_SPATTER = Strengths(
    small=((1, 0.05, 0.5), (1, 0.1, 0.5), (1, 0.2, 0.5), (1, 0.3, 0), (1, 0.4, 0)),
    large=((4, 0.1, 0.6), (3, 0.2, 0.6), (2, 0.25, 0.5), (2, 0.4, 0), (2, 0.5, 0)),
)
"""Size of the drops, share they cover, how strong the water is (0: mud). Sizes and strengths are close to the published
ones; the share is fixed here, for the published thresholds leave it to chance and let mud cover less than water."""
_ICE = (0.85, 0.93, 1.0)
_WATER = (175 / 255, 238 / 255, 238 / 255)
_MUD = (63 / 255, 42 / 255, 20 / 255)


@corruption(reference=_PAPER, group="weather")
def snow(images: Images, severity: int, generators: Generators) -> Images:
    """Flakes streaked by their fall, before a whitened picture.

    Args:
        images: Float32 (N, C, H, W) in [0, 1].
        severity: How strong, 1 to 5.
        generators: One random generator an example.
    """
    mean, spread, size, threshold, radius, sigma, weight = _SNOW.at(images, severity)
    scale = pixel_scale(images)
    flakes = mean + spread * generators.fork(0).normal(1, *images.shape[-2:])
    flakes = zoomed(flakes, max(1.0, size * scale))
    flakes = torch.where(flakes < threshold, 0.0, flakes).clamp(0, 1)
    degrees = -135 + 90 * generators.fork(1).uniform(1)[:, 0]
    flakes = streaked(flakes, radius * scale, sigma * scale, degrees)
    whitened = weight * images + (1 - weight) * torch.maximum(images, grey(images) * 1.5 + 0.5)
    return (whitened + flakes + flakes.flip((-2, -1))).clamp(0, 1)


@corruption(reference=_PAPER, group="weather")
def frost(images: Images, severity: int, generators: Generators) -> Images:
    """Ice crystals on the lens; ridges of a fractal stand in for the published photographs of frost.

    Args:
        images: Float32 (N, C, H, W) in [0, 1].
        severity: How strong, 1 to 5.
        generators: One random generator an example.
    """
    weight, ice = _FROST.at(images, severity)
    crystals = (1 - (2 * plasma(images, 1.4, generators) - 1).abs()) ** 3
    return (weight * images + ice * crystals * _paint(_ICE, images)).clamp(0, 1)


@corruption(reference=_PAPER, group="weather")
def fog(images: Images, severity: int, generators: Generators) -> Images:
    """Clouds of a plasma fractal laid over the picture, its brightest value kept.

    Args:
        images: Float32 (N, C, H, W) in [0, 1].
        severity: How strong, 1 to 5.
        generators: One random generator an example.
    """
    thickness, decay = _FOG.at(images, severity)
    brightest = images.amax((1, 2, 3), keepdim=True)
    clouded = images + thickness * plasma(images, decay, generators)
    return (clouded * brightest / (brightest + thickness)).clamp(0, 1)


@corruption(reference=_PAPER, group="weather")
def brightness(images: Images, severity: int, generators: Generators) -> Images:
    """Daylight: the value of each pixel lifted.

    Args:
        images: Float32 (N, C, H, W) in [0, 1].
        severity: How strong, 1 to 5.
        generators: One random generator an example.
    """
    return brightened(images, _BRIGHTNESS.at(images, severity))


@corruption(reference=_PAPER, group="extra")
def spatter(images: Images, severity: int, generators: Generators) -> Images:
    """Drops on the lens: water at severities 1 to 3, mud from 4, without the published shading of their rims.

    Args:
        images: Float32 (N, C, H, W) in [0, 1].
        severity: How strong, 1 to 5.
        generators: One random generator an example.
    """
    size, share, water = _SPATTER.at(images, severity)
    liquid = smooth(generators.normal(1, *images.shape[-2:]), size * pixel_scale(images))
    flat = liquid.flatten(1).to(precise_device(liquid.device))  # torch computes ranks in float64
    level = flat.quantile(1 - share, dim=1).to(liquid.device).view(-1, 1, 1, 1)
    depth = ((liquid - level) / liquid.std((1, 2, 3), keepdim=True)).clamp(min=0)
    if water:
        return (images + water * (2 * depth).clamp(max=1) * _paint(_WATER, images)).clamp(0, 1)
    cover = (4 * depth).clamp(max=1)
    return images * (1 - cover) + cover * _paint(_MUD, images)


def _paint(colour: tuple[float, float, float], images: Images) -> Tensor:
    """`colour` for three channels, its luminance for any other number, (1, 3 or 1, 1, 1)."""
    paint = torch.tensor(colour, device=images.device).view(1, 3, 1, 1)
    return paint if images.shape[1] == 3 else grey(paint)


def plasma(images: Images, decay: float, generators: Generators) -> Tensor:
    """A height map for each image by the diamond-square algorithm on a torus (a plasma fractal).

    Args:
        images: Float32 (N, C, H, W) in [0, 1].
        decay: Factor by which the variation falls from one scale to the next: large is smooth.
        generators: One random generator an example.

    Returns:
        Float32 (N, 1, H, W) in [0, 1].
    """
    height, width = images.shape[-2:]
    size = 1 << (max(height, width, 2) - 1).bit_length()
    field = torch.zeros(len(images), size, size, device=images.device)
    step, roughness, level = size, 100.0, 0
    while step >= 2:
        _refine(field, step, roughness**2, generators.fork(level))
        step, roughness, level = step // 2, roughness / decay, level + 1
    low, high = field.amin((1, 2), keepdim=True), field.amax((1, 2), keepdim=True)
    return ((field - low) / (high - low))[:, None, :height, :width]


def _refine(field: Tensor, step: int, roughness: float, generators: Generators) -> None:
    """Fill the centres of the squares `step` apart, then the middles of their sides."""
    half, count = step // 2, field.shape[1] // step

    def mean(total: Tensor, stream: int) -> Tensor:
        return total / 4 + roughness * (generators.fork(stream).uniform(count, count) * 2 - 1)

    corners = field[:, ::step, ::step]
    rows = corners + corners.roll(-1, 1)
    field[:, half::step, half::step] = mean(rows + rows.roll(-1, 2), 0)
    centres = field[:, half::step, half::step]
    field[:, ::step, half::step] = mean(centres + centres.roll(1, 1) + corners + corners.roll(-1, 2), 1)
    field[:, half::step, ::step] = mean(centres + centres.roll(1, 2) + corners + corners.roll(-1, 1), 2)
