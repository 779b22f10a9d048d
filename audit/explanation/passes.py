"""What an attribution costs at most, from what the method declares. Imports torch only when asked."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from audit.core.registry import find

if TYPE_CHECKING:
    from audit.core.types import PassCount


def max_attribution_passes(
    method: str,
    settings: Mapping[str, Any],
    shape: tuple[int, ...],
    mask_source: Mapping[str, Any] | None = None,
) -> PassCount | None:
    """The most that one image may cost, its prediction included; None where the method declares nothing.

    An image on which a gradient method finds only zeros costs a few passes more.

    Args:
        method: The name of a registered attribution.
        settings: The cell's: `method`, the settings of the method, and `references`, the number of background images.
        shape: Of an image, (C, H, W).
        mask_source: Settings of the method whose answers this one reuses; None where it reuses none. Where that one
            evaluates every mask, and does not fail, nothing is left to pay.
    """
    from audit.core.types import PassCount
    from audit.explanation.mask_reuse import evaluates_every_mask

    if mask_source is not None and evaluates_every_mask(mask_source, shape):
        return PassCount(0, 0)
    declared = find("attribution", method).facts["passes"]
    if declared is None:
        return None
    passes: PassCount | None = declared({**settings["method"], "references": settings.get("references", 0)}, shape)
    return None if passes is None else passes + PassCount(1, 0)
