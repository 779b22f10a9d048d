"""Accuracy by group: of the classes, and of the columns of the data."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from audit.core.evidence import Array
from audit.metrics.group_rates import GroupRates, group_rates
from audit.metrics.slice_candidates import LABEL, as_groups
from audit.topics.slices.described import OF_DATA, DescribedImages, SliceOutcome

MOST_GROUPS_SHOWN = 40
"""Columns of more groups have no table."""


def class_rates(described: DescribedImages, outcome: SliceOutcome) -> GroupRates | None:
    """The share with an outcome by class, however many classes there are; None for fewer than two.

    Args:
        described: The images.
        outcome: The outcome, one that was measured.
    """
    measured = described.outcomes[outcome]
    names = np.array(described.classes, dtype=str)[described.labels[measured.positions]]
    return group_rates(measured.values > 0, names, described.looks.get(outcome, "only"))


def groups_of(described: DescribedImages, outcome: SliceOutcome) -> Iterator[tuple[str, GroupRates]]:
    """The share with an outcome by group: of each class, and of each column of the data that has groups.

    Args:
        described: The images.
        outcome: The outcome.

    Yields:
        "label" or the column, with the shares.
    """
    measured = described.outcomes[outcome]
    named = {LABEL: np.array(described.classes, dtype=str)[described.labels]} if described.classes else {}
    own = {name: values for name, values in described.columns.items() if name.startswith(OF_DATA)}
    for name, values in {**named, **own}.items():
        groups = as_groups(values)
        groups = _fifths(values) if groups is None else groups
        of = groups[measured.positions]
        rates = group_rates(measured.values[of != ""] > 0, of[of != ""], described.looks.get(outcome, "only"))
        if rates is not None and len(rates.by_group) <= MOST_GROUPS_SHOWN:
            yield name, rates


def _fifths(values: Array) -> NDArray[np.str_]:
    """Which fifth of the numbers each is in, as the numbers it ranges over; "" where it is unknown."""
    known = np.isfinite(values)
    bounds = np.unique(np.quantile(values[known], np.linspace(0, 1, 6)))
    place = np.clip(np.searchsorted(bounds, np.where(known, values, bounds[0]), side="left") - 1, 0, len(bounds) - 2)
    names = np.array([f"{low:.4g}–{high:.4g}" for low, high in pairwise(bounds.tolist())])
    return np.where(known, names[place], "")
