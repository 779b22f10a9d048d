"""Slices of a test set that can be said in words: by an attribute, by a group, by what is alike to a model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from audit.core.evidence import Array

QuantileLevel = Literal["", "lowest-tenth", "lowest-fifth", "low", "middle", "high", "highest-fifth", "highest-tenth"]
"""Which of the values, in order, a condition selects; empty where it names a value."""
LEVELS: Mapping[QuantileLevel, tuple[float, float]] = {
    "lowest-tenth": (0.0, 0.1),
    "lowest-fifth": (0.0, 0.2),
    "low": (0.2, 0.4),
    "middle": (0.4, 0.6),
    "high": (0.6, 0.8),
    "highest-fifth": (0.8, 1.0),
    "highest-tenth": (0.9, 1.0),
}
"""The shares of the values in order between which each level lies."""
_ENDS: tuple[QuantileLevel, ...] = ("lowest-fifth", "highest-fifth")
LABEL, CLUSTER = "label", "cluster"
"""What conditions on the class of the image and on the cluster of its features are called."""
_FEW_VALUES = 8
"""A column of at most so many different numbers is one of groups."""


@dataclass(frozen=True)
class SliceCondition:
    """One property that the images of a slice have.

    Attributes:
        attribute: The attribute, the column, `LABEL` or `CLUSTER`.
        level: Which of its values in order; empty for groups.
        value: The group; empty for numbers.
        low: The smallest number in it; 0 for groups.
        high: The largest number in it; 0 for groups.
    """

    attribute: str
    level: QuantileLevel = ""
    value: str = ""
    low: float = 0.0
    high: float = 0.0


@dataclass(frozen=True)
class SliceCandidate:
    """Images that share some properties.

    Attributes:
        conditions: The properties, those of the images it is compared among first.
        members: Whether each example has them, bool (N,).
        among: The examples that it is compared among, bool (N,): those of its class, or all.
    """

    conditions: tuple[SliceCondition, ...]
    members: NDArray[np.bool_]
    among: NDArray[np.bool_]


def slice_candidates(
    columns: Mapping[str, Array], labels: Array, classes: Sequence[str], *, fewest: int
) -> Iterator[SliceCandidate]:
    """The slices that are looked at: each level or group of each column, and the ends of each column within a class.

    A class alone is none: its recall is known. Numbers are cut by their quantiles, so that nothing depends on what a
    model did with the images.

    Args:
        columns: By name, numbers (N,), NaN where unknown, or groups as texts (N,), "" where unknown.
        labels: The class of each example, int64 (N,).
        classes: Names of the classes.
        fewest: Slices of fewer examples, and those that leave fewer to compare with, are left out.
    """
    everything = np.ones(len(labels), bool)
    for name, values in columns.items():
        for condition, members in _parts(name, values, everything, tuple(LEVELS)):
            if _large_enough(members, everything, fewest):
                yield SliceCandidate((condition,), members, everything)
        for label, class_name in enumerate(classes):
            among = np.asarray(labels) == label
            if among.sum() < 2 * fewest:
                continue
            within = SliceCondition(LABEL, value=class_name)
            for condition, members in _parts(name, values, among, _ENDS):
                if _large_enough(members, among, fewest):
                    yield SliceCandidate((within, condition), members, among)


def as_groups(values: Array) -> NDArray[np.str_] | None:
    """The groups of a column, as texts; None for one of numbers that differ.

    Args:
        values: Numbers or texts, (N,).
    """
    column = np.asarray(values)
    if column.dtype.kind not in "fiub":
        return column.astype(str)
    known = column[np.isfinite(column)] if column.dtype.kind == "f" else column
    if len(np.unique(known)) > _FEW_VALUES:
        return None
    return np.array(["" if value != value else f"{value:g}" for value in column.astype(float)], dtype=str)


def _parts(
    name: str, values: Array, among: NDArray[np.bool_], levels: Sequence[QuantileLevel]
) -> Iterator[tuple[SliceCondition, NDArray[np.bool_]]]:
    groups = as_groups(values)
    if groups is not None:
        for group in np.unique(groups[among]):
            if group:
                yield SliceCondition(name, value=str(group)), (groups == group) & among
        return
    numbers = np.asarray(values, np.float64)
    known = among & np.isfinite(numbers)
    if not known.any():
        return
    for level in levels:
        start, stop = LEVELS[level]
        low, high = np.quantile(numbers[known], [start, stop])
        above = numbers >= low if start == 0 else numbers > low
        members = known & above & (numbers <= high)
        if members.any() and not members[known].all():
            inside = numbers[members]
            yield SliceCondition(name, level, low=float(inside.min()), high=float(inside.max())), members


def _large_enough(members: NDArray[np.bool_], among: NDArray[np.bool_], fewest: int) -> bool:
    return bool(members.sum() >= fewest and (among & ~members).sum() >= fewest)
