"""What is read of hidden and moved objects by class."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import bdtrc

from audit.core.statistics import Interval, clopper_pearson, holm
from audit.results.run_results import RunResults

BACKGROUND_STUDY = "detection-background"
_LEAST_OBJECTS = 5
"""A class with fewer found objects is not judged."""
ALPHA = 0.01
"""Over all classes and both probes together, the probability of a false finding."""


@dataclass(frozen=True)
class ClassBackground:
    """One class.

    Attributes:
        label: Position among the classes.
        objects: Its objects that are found in place.
        hidden: Share of them whose class is still found when they are hidden, with its exact interval.
        lost: Share of them that are lost in other surroundings, likewise.
        hidden_p: Probability of so many or more still found, were the share that which is allowed; by Holm over all
            classes and both probes.
        lost_p: The same of those lost.
    """

    label: int
    objects: int
    hidden: Interval
    lost: Interval
    hidden_p: float
    lost_p: float


def backgrounds(results: RunResults, role: str, most_hidden: float, most_lost: float) -> list[ClassBackground]:
    """Each class with at least five found objects.

    Args:
        results: The run.
        role: Role of the detector.
        most_hidden: The share still found when hidden that is allowed.
        most_lost: The share lost when moved that is allowed.
    """
    labels, hidden, moved = (results.array(BACKGROUND_STUDY, name, role=role) for name in ("labels", "hidden", "moved"))
    if labels is None or hidden is None or moved is None:
        return []
    lost = 1 - moved.astype(np.int64)
    judged = [
        int(k) for k, count in zip(*np.unique(labels, return_counts=True), strict=True) if count >= _LEAST_OBJECTS
    ]
    tails = [
        float(bdtrc(int(values[labels == k].sum()) - 1, int((labels == k).sum()), share))
        for k in judged
        for values, share in ((hidden, most_hidden), (lost, most_lost))
    ]
    adjusted = holm(tails).tolist()
    return [
        ClassBackground(
            label=k,
            objects=int((labels == k).sum()),
            hidden=clopper_pearson(int(hidden[labels == k].sum()), int((labels == k).sum())),
            lost=clopper_pearson(int(lost[labels == k].sum()), int((labels == k).sum())),
            hidden_p=adjusted[2 * i],
            lost_p=adjusted[2 * i + 1],
        )
        for i, k in enumerate(judged)
    ]
