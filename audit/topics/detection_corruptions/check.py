"""Whether mAP holds under common corruptions."""

from __future__ import annotations

from audit.config import RunConfig
from audit.core.registry import check
from audit.results.check_result import MIN_IMAGES, CheckResult, at_least, template_values
from audit.results.queries import cell_keys
from audit.results.run_results import RunResults
from audit.topics.detection_accuracy.measured import class_count
from audit.topics.detection_corruptions import DetectionCorruptionConfig
from audit.topics.detection_corruptions.measured import STUDY, precision_left


@check(
    section="detection_corruptions",
    title_pass="Under common corruptions {estimate:.0%} of the {role} detector's mAP is left",
    title_fail="Under common corruptions only {estimate:.0%} of the {role} detector's mAP is left",
    title_inconclusive="{n} images are too few to say how much of the {role} detector's mAP corruptions leave",
    explanation="The mean mAP over {conditions} kinds of corruption and their severities as a share of the clean one, "
    "on the same {n} images.",
    criterion="The lower bound of the 95% interval must be at least {threshold:.0%}.",
    advice="Add the corruptions that hurt most to the training augmentation.",
    advice_inconclusive="Corrupt more images (`corruptions.examples`).",
    reference="arXiv:1907.07484",
)
def detection_corruption(results: RunResults, role: str, config: RunConfig) -> CheckResult | None:
    """The relative performance under corruption (Michaelis et al. 2019, arXiv:1907.07484) against
    `detection_corruptions.kept`.

    Args:
        results: The run.
        role: Role of the model.
        config: The configuration of the run, which holds the threshold.
    """
    entries = results.entries(STUDY, role=role)
    left = precision_left(results, role, class_count(results, role)) if entries else None
    if left is None:
        return None
    least = config.table(DetectionCorruptionConfig).kept
    kinds = len({entry.task.cell.method for entry in entries})
    verdict = at_least(left, least) if left.n >= MIN_IMAGES else "inconclusive"
    return CheckResult(verdict, left, cell_keys(entries), template_values(left, threshold=least, conditions=kinds))
