"""How strong a severity is: published constants, carried to other image sizes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from audit.core.errors import UsageError
from audit.core.types import Images

_T = TypeVar("_T")

IMAGENET_SIDE = 224
CIFAR_SIDE = 32
_SMALL = 96
"""Below this many pixels a side the CIFAR-10-C constants apply, from it on ImageNet-C's."""


@dataclass(frozen=True)
class Strengths(Generic[_T]):
    """One constant for each severity: `small` as in CIFAR-10-C, `large` as in ImageNet-C.

    Attributes:
        small: By severity, for images of few pixels (CIFAR-10-C).
        large: By severity, for large images (ImageNet-C).
    """

    small: Sequence[_T]
    large: Sequence[_T]

    def at(self, images: Images, severity: int) -> _T:
        """The constant for these images. Raises UsageError for a severity outside 1 to 5.

        Args:
            images: Float32 (N, C, H, W) in [0, 1].
            severity: How strong, 1 to 5.

        Raises:
            UsageError: For a severity outside 1 to 5.
        """
        if severity not in (1, 2, 3, 4, 5):
            raise UsageError(f"Severity {severity!r} does not exist: use a whole number from 1 to 5.")
        return (self.small if is_small(images) else self.large)[severity - 1]


def is_small(images: Images) -> bool:
    """Whether the constants for small images apply.

    Args:
        images: Float32 (N, C, H, W) in [0, 1].
    """
    return side(images) < _SMALL


def side(images: Images) -> int:
    """The shorter side in pixels.

    Args:
        images: Float32 (N, C, H, W) in [0, 1].
    """
    return min(images.shape[-2:])


def pixel_scale(images: Images) -> float:
    """What a length in pixels is multiplied by: 1 at the published size, 32 or 224.

    Args:
        images: Float32 (N, C, H, W) in [0, 1].
    """
    return side(images) / (CIFAR_SIDE if is_small(images) else IMAGENET_SIDE)
