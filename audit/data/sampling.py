"""The order in which examples are audited: seeded, balanced over the classes, the same on every machine."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from audit.core.seeding import derive_seed
from audit.data.dataset import Split


def balanced_order(split: Split, seed: int) -> NDArray[np.int64]:
    """An order of the examples of which every prefix is as balanced over the classes as can be.

    It depends on the seed, the ids and the labels alone: a new image does not reorder the others of its class.
    Round r takes each class's r-th example, in an order drawn anew each round so that no class is always last.

    Args:
        split: The examples.
        seed: Root of the random order.

    Returns:
        Positions in `split`, int64 (N,).
    """
    keys = np.array([derive_seed(seed, "audit-order", name) for name in split.ids], dtype=np.int64)
    rounds = _rank_within_class(split.labels, keys)
    turn = np.array(
        [derive_seed(seed, "turn", r, c) for r, c in zip(rounds.tolist(), split.labels.tolist(), strict=True)],
        dtype=np.int64,
    )
    return np.lexsort((keys, turn, rounds)).astype(np.int64)


def balanced_subset(split: Split, examples: int, seed: int) -> Split:
    """Some examples of a split, balanced over the classes, in their original order.

    Args:
        split: The examples.
        examples: How many at most.
        seed: Root of the random choice.
    """
    if examples >= len(split):
        return split
    return split.subset(np.sort(balanced_order(split, seed)[:examples]))


def _rank_within_class(labels: NDArray[np.int64], keys: NDArray[np.int64]) -> NDArray[np.int64]:
    """How many examples of the same class have a smaller key, for each example."""
    order = np.lexsort((keys, labels))
    by_class = labels[order]
    starts = np.searchsorted(by_class, by_class)
    ranks = np.empty(len(labels), dtype=np.int64)
    ranks[order] = np.arange(len(labels)) - starts
    return ranks
