"""The norms of a threat model, and an eps as text. It imports no torch: the configuration and the report need it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Literal, get_args

from audit.core.errors import UsageError
from audit.core.note import Note, note

Norm = Literal["linf", "l2", "l1", "l0"]
"""How a change is measured: its largest value, its length, the sum of its values, or how many values it touches."""
NORMS: tuple[Norm, ...] = get_args(Norm)
CONVEX_NORMS: tuple[Norm, ...] = ("linf", "l2", "l1")
"""Those whose ball is convex: gradient steps projected onto it, training within it and linear bounds over it exist."""


_USUAL_EPS: Mapping[Norm, tuple[tuple[float, int], tuple[float, int]]] = {
    "linf": ((0.1, 1), (8 / 255, 1)),
    "l2": ((1.0, 28 * 28), (0.5, 3 * 32 * 32)),
    "l1": ((10.0, 28 * 28), (12.0, 3 * 32 * 32)),
    "l0": ((24.0, 28 * 28), (24.0, 3 * 32 * 32)),
}
"""By norm, the eps on grey images and on colour, each with the number of values of an image that it is usual at.

Wong and Kolter 2018 (grey, linf); RobustBench, arXiv:2010.09670 (colour: linf 8/255, l2 0.5); Croce and Hein 2021,
arXiv:2103.01208 (l1: 10 on MNIST, 12 on CIFAR-10); Cinà et al. 2025, arXiv:2402.01879 (l0: 24 values)."""


def no_steps_within(norm: Norm) -> Note:
    """Why what takes projected steps within a ball, or bounds over it, has no meaning for a norm.

    Args:
        norm: The norm, one that is not among `CONVEX_NORMS`.
    """
    return note(
        "not_convex", "The {norm} ball is not convex: this is made for {norms}.", norm=norm, norms=list(CONVEX_NORMS)
    )


def usual_eps(norm: Norm, shape: tuple[int, int, int]) -> float:
    """The eps of a norm where none is given: that of the field's benchmarks.

    For l2 and l1 it grows from there with the square root of the number of values, as the l2 norm of a change of given
    size at every pixel does; for l0 it is a whole number, the same share of the values.

    Args:
        norm: The norm.
        shape: Channels, height and width of an image.

    Returns:
        In units of the pixel range [0, 1]; for l0 a number of values.
    """
    grey, colour = _USUAL_EPS[norm]
    eps, values = grey if shape[0] == 1 else colour
    if norm == "l0":
        return float(max(1, round(eps * math.prod(shape) / values)))
    return eps if norm == "linf" else float(f"{eps * math.sqrt(math.prod(shape) / values):.2g}")


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
        norm: linf, l2, l1 or l0.
        eps: The largest change, in units of the pixel range [0, 1].
    """
    return f"{norm} {format_eps(eps, norm)}"
