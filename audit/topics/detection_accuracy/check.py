"""Whether a detector finds enough on clean images."""

from __future__ import annotations

from audit.config import RunConfig
from audit.core.registry import check
from audit.results.check_result import MIN_IMAGES, CheckResult, at_least, template_values
from audit.results.queries import cell_keys
from audit.results.run_results import RunResults
from audit.topics.detection_accuracy import DetectionAccuracyConfig
from audit.topics.detection_accuracy.measured import STUDY, class_count, measured_detector


@check(
    section="detection_accuracy",
    title_pass="The {role} detector reaches a mAP of {estimate:.3f} on clean images",
    title_fail="The {role} detector reaches a mAP of only {estimate:.3f} on clean images",
    title_inconclusive="{n} images are too few to say whether the {role} detector reaches a mAP of {threshold:.2f}",
    explanation="COCO's mean average precision over overlaps .50 to .95, on {n} test images as they are. Every other "
    "number in this report is read against this one.",
    criterion="The lower bound of the 95% interval must be at least {threshold:.2f}.",
    advice="Look at the commonest kind of error below: missed objects ask for more or larger images, wrong classes for "
    "more examples of the classes confused, badly placed boxes for longer training.",
    advice_inconclusive="Give more test images: all that there are were measured.",
    reference="arXiv:1405.0312",
)
def detection_map(results: RunResults, role: str, config: RunConfig) -> CheckResult | None:
    """COCO's mAP (Lin et al. 2014, arXiv:1405.0312) against `detection_accuracy.mean_average_precision`.

    Args:
        results: The run.
        role: Role of the model.
        config: The configuration of the run, which holds the threshold.
    """
    entries = results.entries(STUDY, role=role)
    measured = measured_detector(results, role, class_count(results, role)) if entries else None
    if measured is None or measured.precision is None:
        return None
    least = config.table(DetectionAccuracyConfig).mean_average_precision
    mean = measured.precision.mean
    verdict = at_least(mean, least) if mean.n >= MIN_IMAGES else "inconclusive"
    return CheckResult(verdict, mean, cell_keys(entries), template_values(mean, threshold=least), unit="mAP")
