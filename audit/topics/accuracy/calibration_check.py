"""Whether the model's confidence is calibrated."""

from __future__ import annotations

from audit.config import RunConfig
from audit.core.registry import check
from audit.metrics.classification import calibration_error
from audit.results.check_result import CheckResult, at_most, template_values
from audit.results.queries import cell_keys
from audit.results.run_results import RunResults
from audit.topics.accuracy.facts import scores_are_independent

MIN_CALIBRATION_IMAGES = 100
"""Least number of images for a verdict: on fewer, even a perfectly calibrated model exceeds most thresholds."""


@check(
    section="accuracy",
    priority=40,
    title_pass="The {role} model's confidence can be believed: it is off by {estimate:.1%} on average",
    title_fail="The {role} model's confidence is off by {estimate:.1%} on average",
    title_inconclusive="{n} images are too few to say whether the {role} model's confidence can be believed",
    explanation="Expected calibration error over 15 bins of confidence and {n} images: the mean distance between how "
    "sure the model is and how often it is right.",
    criterion="The upper bound of the 95% interval must be at most {threshold:.0%}, on at least 100 images.",
    advice="Fit a temperature on held-out images: `audit calibrate CHECKPOINT --out FILE.safetensors` writes a "
    "checkpoint with it inside; predictions do not change.",
    advice_inconclusive="Give more test images: all that there are were measured.",
    reference="arXiv:1706.04599",
)
def calibration(results: RunResults, role: str, config: RunConfig) -> CheckResult | None:
    """The expected calibration error (Guo et al. 2017, arXiv:1706.04599) against `calibration_error`.

    Args:
        results: The run.
        role: Role of the model.
        config: The configuration of the run; its criteria hold the thresholds.
    """
    logits = results.array("accuracy", "logits", role=role)
    labels = results.array("accuracy", "labels", role=role)
    if logits is None or labels is None or not len(labels) or not results.labelled:
        return None
    if scores_are_independent(results, role):
        return None
    error = calibration_error(logits, labels)
    enough = len(labels) >= MIN_CALIBRATION_IMAGES
    verdict = at_most(error, config.criteria.calibration_error) if enough else "inconclusive"
    return CheckResult(
        verdict,
        error,
        cell_keys(results.entries("accuracy", role=role)),
        template_values(error, threshold=config.criteria.calibration_error),
    )
