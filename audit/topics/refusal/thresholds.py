"""The confidence from which a prediction is accepted: chosen on one half of the images, judged on the other."""

from __future__ import annotations

from dataclasses import dataclass

from audit.core.statistics import Interval, clopper_pearson, share_of
from audit.metrics.selective import GuaranteedThreshold, guaranteed_threshold
from audit.topics.refusal.measured import Predictions


@dataclass(frozen=True)
class AcceptedPredictions:
    """What a threshold accepts on images that it was not chosen on.

    Attributes:
        threshold: The threshold.
        accepted: Share of the images that is accepted.
        risk: Share of errors among those; None where none is.
    """

    threshold: GuaranteedThreshold
    accepted: Interval
    risk: Interval | None


def accepted_at(choosing: Predictions, judging: Predictions, risk: float) -> AcceptedPredictions | None:
    """What is accepted at the threshold that keeps errors at a share.

    Args:
        choosing: The images that the threshold is chosen on.
        judging: Those that it is judged on.
        risk: The most errors among accepted predictions.

    Returns:
        What it accepts; None where no threshold reaches the risk.
    """
    threshold = guaranteed_threshold(choosing.confidence, choosing.correct, risk)
    if threshold is None:
        return None
    accepted = judging.confidence >= threshold.confidence
    errors, count = int((accepted & ~judging.correct).sum()), int(accepted.sum())
    left = clopper_pearson(errors, count) if count else None
    return AcceptedPredictions(threshold, share_of(accepted), left)
