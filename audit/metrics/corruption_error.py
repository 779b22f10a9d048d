"""One number for many corruptions: the mean error, plain or relative to a named reference."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from audit.core.errors import UsageError

Errors = Mapping[str, Sequence[float]]
"""Error rates by corruption, one a severity."""


@dataclass(frozen=True)
class CorruptionError:
    """`mean` over corruptions, `by_corruption`, and the name that may be printed beside them."""

    name: str
    mean: float
    by_corruption: Mapping[str, float]


def mean_corruption_error(errors: Errors) -> CorruptionError:
    """The mean error over severities, then over corruptions: no reference, no normalisation."""
    rows = {name: _mean(name, row) for name, row in errors.items()}
    return CorruptionError("mean corruption error", _over(rows), rows)


def relative_corruption_error(errors: Errors, reference: Errors, *, of: str) -> CorruptionError:
    """Each corruption's error as a share of the model `of`'s on the same images, then the mean over corruptions.

    The published mCE is this with AlexNet as the reference, on the files of ImageNet-C (Hendrycks and Dietterich 2019,
    arXiv:1903.12261); nothing made here may bear that name. Raises UsageError when the two do not cover the same
    corruptions and severities, or the reference makes no error on one.
    """
    rows = {name: _mean(name, row) for name, row in errors.items()}
    if {name: len(row) for name, row in errors.items()} != {name: len(row) for name, row in reference.items()}:
        raise UsageError(f"The errors of {of} do not cover the same corruptions and severities: measure both alike.")
    base = {name: _mean(name, row) for name, row in reference.items()}
    perfect = sorted(name for name, error in base.items() if error == 0)
    if perfect:
        raise UsageError(f"{of} makes no error under {', '.join(perfect)}: nothing can be relative to that.")
    relative = {name: error / base[name] for name, error in rows.items()}
    return CorruptionError(f"corruption error relative to {of}", _over(relative), relative)


def _mean(name: str, row: Sequence[float]) -> float:
    if not row or not all(0 <= error <= 1 for error in row):
        raise UsageError(f"The errors under {name} must be shares between 0 and 1, at least one.")
    return sum(row) / len(row)


def _over(rows: Mapping[str, float]) -> float:
    if not rows:
        raise UsageError("There is no corruption to take a mean over.")
    return sum(rows.values()) / len(rows)
