"""The range of pixels, [0, 1]: what lies outside it by rounding, and what is another scale."""

from __future__ import annotations

from collections.abc import Iterator

from audit.core.note import Note, note

BARELY_OUTSIDE = 1e-3
"""How far outside [0, 1] arithmetic in half precision leaves a pixel; half a level of 8 bits is 2e-3."""


def is_rounding(low: float, high: float) -> bool:
    """Whether pixels lie in [0, 1] or so little outside it that they are to be clipped.

    Args:
        low: The lowest pixel.
        high: The highest pixel.
    """
    return low >= -BARELY_OUTSIDE and high <= 1 + BARELY_OUTSIDE


def rounding_notes(low: float, high: float) -> Iterator[Note]:
    """A sentence where pixels were clipped to [0, 1]; none where all lay in it.

    Args:
        low: The lowest pixel before.
        high: The highest pixel before.
    """
    if low < 0 or high > 1:
        yield note(
            "pixels_rounded",
            "Pixels from {low} to {high} were clipped to [0, 1]: so little outside is rounding.",
            low=f"{low:.8g}",
            high=f"{high:.8g}",
        )
