"""Whether a detector's scores can be believed."""

from __future__ import annotations

from audit.config import RunConfig
from audit.core.registry import check
from audit.results.check_result import CheckResult, at_most, template_values
from audit.results.queries import cell_keys
from audit.results.run_results import RunResults
from audit.topics.detection_accuracy import DetectionAccuracyConfig
from audit.topics.detection_accuracy.measured import STUDY, class_count, measured_detector

MIN_DETECTIONS = 100
"""Least number of detections for a verdict: on fewer, even true scores exceed most thresholds."""


@check(
    section="detection_accuracy",
    priority=40,
    title_pass="The {role} detector's scores can be believed: they are off by {estimate:.1%} on average",
    title_fail="The {role} detector's scores are off by {estimate:.1%} on average",
    title_inconclusive="{n} images are too few to say whether the {role} detector's scores can be believed",
    explanation="Detection calibration error over 15 bins of score, {n} images and {detections} detections: the mean "
    "distance between the score and the share of detections that are right (overlap .5).",
    criterion="The upper bound of the 95% interval must be at most {threshold:.0%}, on at least 100 detections.",
    advice="Fit a curve from score to share right on held-out images and report that; the order of boxes, and so mAP, "
    "does not change.",
    advice_inconclusive="Give more test images: all that there are were measured.",
    reference="arXiv:2004.13546",
)
def detection_scores(results: RunResults, role: str, config: RunConfig) -> CheckResult | None:
    """The detection calibration error (Kueppers et al. 2020, arXiv:2004.13546) against
    `detection_accuracy.calibration_error`.

    Args:
        results: The run.
        role: Role of the model.
        config: The configuration of the run, which holds the threshold.
    """
    entries = results.entries(STUDY, role=role)
    measured = measured_detector(results, role, class_count(results, role)) if entries else None
    if measured is None or measured.calibration is None:
        return None
    most = config.table(DetectionAccuracyConfig).calibration_error
    error = measured.calibration[1]
    detections = len(measured.found.labels)
    verdict = at_most(error, most) if detections >= MIN_DETECTIONS else "inconclusive"
    values = template_values(error, threshold=most, detections=detections)
    return CheckResult(verdict, error, cell_keys(entries), values)
