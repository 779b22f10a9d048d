"""Rankings of pixels: by a map, and by controls that know nothing of the model."""

from __future__ import annotations

import torch
from torch import Tensor

from audit.core.seeding import Generators
from audit.core.types import Attributions, Images
from audit.masking.baselines import blur

CONTROL_RANKINGS = ("random", "centre", "edges")
"""Orders every explanation must beat: chance, where photographers put things, where there is contrast."""


def order_of(attributions: Attributions, generators: Generators) -> Tensor:
    """Pixels by attribution summed over channels, highest first, int64 (N, H x W); ties in a random order.

    Args:
        attributions: Float (N, C or 1, H, W).
        generators: One random generator an image.
    """
    values = attributions.sum(1).flatten(1)
    shuffle = generators.permutations(values.shape[1])
    return shuffle.gather(1, values.gather(1, shuffle).argsort(dim=1, descending=True, stable=True))


def control_order(name: str, images: Images, generators: Generators) -> Tensor:
    """The ranking of a control, int64 (N, H x W).

    Args:
        name: One of `CONTROL_RANKINGS`.
        images: Float32 (N, C, H, W) in [0, 1].
        generators: One random generator an image.
    """
    if name == "random":
        return generators.permutations(images.shape[2] * images.shape[3])
    return order_of({"centre": centre_map, "edges": edge_map}[name](images), generators)


def centre_map(images: Images) -> Attributions:
    """Nearness to the middle of the image, (N, 1, H, W).

    Args:
        images: Float32 (N, C, H, W).
    """
    height, width = images.shape[2:]
    rows = torch.linspace(-1, 1, height, device=images.device)[:, None]
    columns = torch.linspace(-1, 1, width, device=images.device)[None]
    return (-(rows**2 + columns**2).sqrt()).expand(len(images), 1, height, width)


def edge_map(images: Images) -> Attributions:
    """The length of the brightness gradient (Sobel), (N, 1, H, W): an edge detector that never saw the model.

    Args:
        images: Float32 (N, C, H, W).
    """
    grey = torch.nn.functional.pad(images.mean(1, keepdim=True), (1, 1, 1, 1), mode="replicate")
    kernel = torch.tensor([[-1.0, 0, 1], [-2, 0, 2], [-1, 0, 1]], device=images.device)
    across = torch.nn.functional.conv2d(grey, kernel[None, None])
    down = torch.nn.functional.conv2d(grey, kernel.T[None, None])
    return (across**2 + down**2).sqrt()


def blurred_copy(attributions: Attributions) -> Attributions:
    """The map itself, blurred by a tenth of its side: a metric that rates it higher rewards smoothness.

    Args:
        attributions: Float (N, C or 1, H, W).
    """
    return blur(attributions, min(attributions.shape[2:]) / 10)
