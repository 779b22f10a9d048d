"""Nets that take one size of batch only, as exported and traced ones may: asked in batches of that size."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from audit.core.types import Images

_SIZES = (1, 2, 3, 8, 10, 16, 32, 64, 128, 256)
"""Sizes of batch that nets are exported for; 4 is what every net is tried with first."""


class FixedBatch(nn.Module):
    """Any number of images through a net that takes `size` at a time, the last batch filled up with its last image.

    Attributes:
        net: The net.
        size: Images in a batch.
    """

    def __init__(self, net: nn.Module, size: int) -> None:
        super().__init__()
        self.net = net
        self.size = size

    def forward(self, images: Images) -> Any:
        """What the net gives, joined along the first axis.

        Args:
            images: Float (N, C, H, W).
        """
        return in_filled_batches(self.net, images, self.size)


def in_filled_batches(net: nn.Module, images: Images, size: int) -> Any:
    """What a net gives for any number of images, asked in batches of one size, the last filled up with its last image.

    Args:
        net: The net; every tensor that it returns has one row an image.
        images: (N, ...), in the layout that the net takes.
        size: Images in a batch.

    Returns:
        What the net returns, its tensors joined along the first axis, (N, ...).
    """
    count = len(images)
    missing = -count % size
    filled = torch.cat([images, images[-1:].expand(missing, *images.shape[1:])]) if missing else images
    parts = [pytree.tree_flatten(net(batch)) for batch in torch.split(filled, size)]
    joined = [torch.cat(values)[:count] for values in zip(*(leaves for leaves, _ in parts), strict=True)]
    return pytree.tree_unflatten(joined, parts[0][1])


def with_fixed_batch(net: nn.Module, images: Images) -> FixedBatch | None:
    """The net as one that takes any number of images; None where it runs at none of the usual sizes.

    Args:
        net: A net that does not run on `images`.
        images: Four images.
    """
    for size in _SIZES:
        batch = images.repeat(-(-size // len(images)), 1, 1, 1)[:size]
        try:
            with torch.no_grad():
                outputs = pytree.tree_leaves(net(batch))
        except Exception:  # whatever it raises, it does not run at this size
            continue
        if outputs and all(isinstance(value, Tensor) and value.shape[:1] == (size,) for value in outputs):
            return FixedBatch(net, size)
    return None
