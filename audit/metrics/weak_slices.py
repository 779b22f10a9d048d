"""Slices on which a model is right less often: chosen on one half of the examples, tested on the other.

What is chosen because it looks bad looks bad where it was chosen, whether it is or not. So slices are chosen on one
half, drawn by seed, and only what the other half says of those few is believed: one exact test a slice (Fisher 1935),
its p-value corrected for their number (Holm 1979).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import betaln

from audit.core.evidence import Array
from audit.core.statistics import Interval, holm, newcombe_difference, wilson
from audit.metrics.slice_candidates import CLUSTER, SliceCandidate

MOST_TESTED = 8
"""Slices that are tested: the correction is for so many at most."""
SIGNIFICANCE = 0.01
"""The corrected p-value below which a slice is weak: over 100 test sets without any, one false one is expected."""
_WORTH_A_TEST = 0.05
"""The p-value on the first half below which a slice is tested on the second."""
_HELD = 0.75
"""The share of its images that a slice has in common with one that was chosen, from which it is no further slice."""
_ALIKE = 0.5
"""The share of images in common, of the larger one's, from which two slices are nearly the same."""


@dataclass(frozen=True)
class TestedSlice:
    """A slice with what the second half of the examples says of it.

    Attributes:
        candidate: The slice.
        alike: Slices that hold nearly the same images, the likest first.
        rate: The share of yes in it, on the second half.
        rest: The same of what it is compared among and is not in it.
        gap: The rate less that of the rest, with Newcombe's interval.
        p_value: Of Fisher's exact test that it is no lower, corrected for the number of slices tested.
        n: Images of the slice in both halves.
    """

    candidate: SliceCandidate
    alike: tuple[SliceCandidate, ...]
    rate: Interval
    rest: Interval
    gap: Interval
    p_value: float
    n: int

    @property
    def is_weak(self) -> bool:
        """Whether the test says that the rate is lower."""
        return self.p_value < SIGNIFICANCE


def halves(count: int, seed: int) -> NDArray[np.bool_]:
    """Which examples slices are chosen on: half of them, drawn by seed.

    Args:
        count: Number of examples, N.
        seed: Of the draw.

    Returns:
        bool (N,); True for those that slices are chosen on.
    """
    chosen = np.zeros(count, bool)
    chosen[np.random.default_rng(seed).permutation(count)[: count // 2]] = True
    return chosen


def weak_slices(outcomes: Array, candidates: Iterable[SliceCandidate], *, seed: int = 0) -> tuple[TestedSlice, ...]:
    """The slices that look weakest on one half, each tested on the other; those tested and not found weak too.

    Args:
        outcomes: Yes-or-no values, (N,).
        candidates: The slices to look at.
        seed: Of the halves.

    Returns:
        At most `MOST_TESTED` slices, the smallest p-value first.
    """
    yes = np.asarray(outcomes).astype(bool)
    choosing = halves(len(yes), seed)
    looked_at = list(candidates)
    p_values = fisher_p_values(yes, looked_at, choosing)
    chosen: list[SliceCandidate] = []
    alike: list[list[SliceCandidate]] = []
    for position in np.argsort(p_values, kind="stable").tolist():
        if p_values[position] >= _WORTH_A_TEST:
            break
        candidate = _in_plainer_words(looked_at[position], looked_at, p_values, choosing)
        same = [i for i, other in enumerate(chosen) if _in_common(candidate, other, choosing, min) >= _HELD]
        if same:
            alike[same[0]] += [] if candidate is chosen[same[0]] else [candidate]
        elif len(chosen) < MOST_TESTED:
            chosen.append(candidate)
            alike.append([])
    testable = [i for i, c in enumerate(chosen) if _can_be_tested(c, ~choosing)]
    corrected = holm(fisher_p_values(yes, [chosen[i] for i in testable], ~choosing))
    tested = []
    for i, p_value in zip(testable, corrected.tolist(), strict=True):
        shared = {id(other): _in_common(chosen[i], other, choosing, max) for other in alike[i]}
        likest = sorted((other for other in alike[i] if shared[id(other)] >= _ALIKE), key=lambda o: -shared[id(o)])
        tested.append(_tested(yes, chosen[i], tuple(likest), ~choosing, p_value))
    return tuple(sorted(tested, key=lambda item: item.p_value))


def _in_plainer_words(
    candidate: SliceCandidate,
    others: Sequence[SliceCandidate],
    p_values: NDArray[np.float64],
    half: NDArray[np.bool_],
) -> SliceCandidate:
    """For a cluster, the likest slice that an attribute or a column tells and that is worth a test; else itself."""
    if all(condition.attribute != CLUSTER for condition in candidate.conditions):
        return candidate
    plain = [
        (_in_common(candidate, other, half, max), i)
        for i, other in enumerate(others)
        if p_values[i] < _WORTH_A_TEST and all(condition.attribute != CLUSTER for condition in other.conditions)
    ]
    likest, position = max(plain, default=(0.0, 0))
    return others[position] if likest >= _ALIKE else candidate


def _tested(
    yes: NDArray[np.bool_],
    candidate: SliceCandidate,
    alike: tuple[SliceCandidate, ...],
    half: NDArray[np.bool_],
    p_value: float,
) -> TestedSlice:
    inside, outside = candidate.members & half, candidate.among & ~candidate.members & half
    counts = int(yes[inside].sum()), int(inside.sum()), int(yes[outside].sum()), int(outside.sum())
    return TestedSlice(
        candidate,
        alike,
        wilson(*counts[:2]),
        wilson(*counts[2:]),
        newcombe_difference(*counts),
        p_value,
        int(candidate.members.sum()),
    )


def fisher_p_values(
    outcomes: Array, candidates: Sequence[SliceCandidate], half: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """The one-sided p-values of Fisher's exact test that yes is no rarer in each slice: hypergeometric tails.

    Args:
        outcomes: Yes-or-no values, (N,).
        candidates: The slices, M.
        half: The examples that are counted, bool (N,).

    Returns:
        In [0, 1], (M,).
    """
    yes = np.asarray(outcomes).astype(bool)
    counts = [
        (
            int((yes & c.members & half).sum()),
            int((c.among & half).sum()),
            int((yes & c.among & half).sum()),
            int((c.members & half).sum()),
        )
        for c in candidates
    ]
    if not counts:
        return np.zeros(0)
    observed, total, successes, drawn = np.array(counts).T
    return np.array([_hypergeometric_tail(*numbers) for numbers in zip(observed, total, successes, drawn, strict=True)])


def _hypergeometric_tail(observed: int, total: int, successes: int, drawn: int) -> float:
    """The probability that of `drawn` examples at most `observed` are among the `successes` of `total`."""
    hits = np.arange(max(0, drawn - (total - successes)), observed + 1)
    logs = _log_choices(successes, hits) + _log_choices(total - successes, drawn - hits) - _log_choices(total, drawn)
    return min(1.0, float(np.exp(logs).sum()))


def _log_choices(of: int, some: int | NDArray[np.int64]) -> NDArray[np.float64]:
    return np.asarray(-betaln(of - some + 1, some + 1) - np.log(of + 1), np.float64)


def _can_be_tested(candidate: SliceCandidate, half: NDArray[np.bool_]) -> bool:
    return bool((candidate.members & half).any() and (candidate.among & ~candidate.members & half).any())


def _in_common(
    first: SliceCandidate, second: SliceCandidate, half: NDArray[np.bool_], of: Callable[[int, int], int]
) -> float:
    """The images that both have, over the number of the smaller or of the larger of the two."""
    both = int((first.members & second.members & half).sum())
    return both / max(1, of(int((first.members & half).sum()), int((second.members & half).sum())))
