"""How much of a detector's mAP is left on changed images, with an interval over the images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from audit.core.statistics import Interval
from audit.metrics.average_precision import basic_bootstrap, resampled_counts, resampled_precision
from audit.metrics.box_matching import BoxMatches

_RESAMPLED = 200
"""Bootstrap samples: each asks every condition for its mAP."""


@dataclass(frozen=True)
class ChangedPrecision:
    """What changes leave of a detector's mAP; 95% intervals over the images.

    Attributes:
        share: The mean mAP under the changes as a share of the clean one; it may exceed 1.
        mean: That mean mAP itself, in [0, 1].
    """

    share: Interval
    mean: Interval


def relative_precision(
    clean: BoxMatches, changed: Sequence[BoxMatches], *, seed: int = 0, resamples: int = _RESAMPLED
) -> ChangedPrecision | None:
    """The mean mAP under changes as a share of the clean one (rPC of Michaelis et al. 2019, arXiv:1907.07484).

    The interval is the basic bootstrap over images, which are drawn together for all conditions.

    Args:
        clean: Matches in N images as they are.
        changed: Matches in the same images under each change.
        seed: Of the drawing.
        resamples: Bootstrap samples.

    Returns:
        None where there are no changes, or the clean mAP is 0 or there is no object.
    """
    once = np.ones((1, clean.images))
    if not changed or not np.nan_to_num(resampled_precision(clean, once)[0]) > 0:
        return None
    drawn = resampled_counts(clean.images, seed, resamples)
    estimates, samples = (_share_and_mean(clean, changed, counts) for counts in (once, drawn))
    return ChangedPrecision(
        basic_bootstrap(np.asarray(estimates[0][0]), samples[0], clean.images, most=np.inf),
        basic_bootstrap(np.asarray(estimates[1][0]), samples[1], clean.images),
    )


def _share_and_mean(
    clean: BoxMatches, changed: Sequence[BoxMatches], drawn: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    whole = resampled_precision(clean, drawn)
    left = np.mean([resampled_precision(matches, drawn) for matches in changed], axis=0)
    return np.where(whole > 0, left / np.where(whole > 0, whole, 1.0), np.nan), left
