"""The norms of a threat model, and an eps as text. It imports no torch: the configuration and the report need it."""

from __future__ import annotations

import math
from typing import Literal, get_args

from audit.core.errors import UsageError

Norm = Literal["linf", "l2", "l1"]
NORMS: tuple[Norm, ...] = get_args(Norm)


def parse_eps(text: str | float) -> float:
    """The eps that is written as a number (0.1) or as a fraction (8/255).

    Args:
        text: The number or the fraction; spaces are ignored.

    Returns:
        The eps as a float.

    Raises:
        UsageError: When `text` is neither, or not finite.
    """
    numerator, slash, denominator = str(text).partition("/")
    try:
        eps = float(numerator) / float(denominator) if slash else float(numerator)
    except (ValueError, ZeroDivisionError):
        eps = math.nan
    if not math.isfinite(eps):
        raise UsageError(f"eps {text!r} is not a number: write 0.1 or 8/255.")
    return eps


def format_eps(eps: float, norm: str = "linf") -> str:
    """The eps as text: 8/255 for a linf eps that is a whole number of grey levels, else the number.

    Args:
        eps: The largest change, in units of the pixel range [0, 1].
        norm: The norm that measures it. Grey levels are used for linf alone, and only where the number is long.
    """
    levels, number = eps * 255, f"{eps:g}"
    as_levels = norm == "linf" and eps > 0 and abs(levels - round(levels)) < 1e-4 and len(number) > 5
    return f"{round(levels)}/255" if as_levels else number


def format_threat(norm: str, eps: float) -> str:
    """The norm and its eps as text: `linf 8/255`, `l2 0.5`.

    Args:
        norm: linf, l2 or l1.
        eps: The largest change, in units of the pixel range [0, 1].
    """
    return f"{norm} {format_eps(eps, norm)}"
