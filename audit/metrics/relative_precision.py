"""How much of a detector's mAP is left on changed images, with an interval over the images."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from audit.core.statistics import Interval
from audit.metrics.average_precision import basic_bootstrap, resampled_counts, resampled_precision
from audit.metrics.box_matching import BoxMatches

_RESAMPLED = 200
"""Bootstrap samples: each asks every condition for its mAP."""


def relative_precision(
    clean: BoxMatches, changed: Sequence[BoxMatches], *, seed: int = 0, resamples: int = _RESAMPLED
) -> Interval | None:
    """The mean mAP under changes as a share of the clean one (rPC of Michaelis et al. 2019, arXiv:1907.07484).

    The interval is the basic bootstrap over images, which are drawn together for all conditions. It may exceed 1.

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
    estimate = _share(clean, changed, once)[0]
    samples = _share(clean, changed, drawn)
    return basic_bootstrap(np.asarray(estimate), samples, clean.images, most=np.inf)


def _share(clean: BoxMatches, changed: Sequence[BoxMatches], drawn: NDArray[np.float64]) -> NDArray[np.float64]:
    whole = resampled_precision(clean, drawn)
    left = np.mean([resampled_precision(matches, drawn) for matches in changed], axis=0)
    share: NDArray[np.float64] = np.where(whole > 0, left / np.where(whole > 0, whole, 1.0), np.nan)
    return share
