"""Whether mAP holds under common corruptions."""

from __future__ import annotations

from audit.config import RunConfig
from audit.core.registry import check
from audit.results.check_result import MIN_IMAGES, CheckResult, at_least, template_values
from audit.results.queries import cell_keys
from audit.results.run_results import RunResults
from audit.topics.detection_corruptions import DetectionCorruptionConfig
from audit.topics.detection_corruptions.measured import CORRUPTED_STUDY, precision_left

_LEAST_CLEAN = 0.1
"""Clean mAP below which a share of it is not judged."""


@check(
    section="detection_corruptions",
    title_pass="Under common corruptions {estimate:.0%} of the {role} detector's mAP is left",
    title_fail="Under common corruptions only {estimate:.0%} of the {role} detector's mAP is left",
    title_inconclusive="{n} images do not tell how much of the {role} detector's mAP corruptions leave",
    explanation="The mean mAP over {conditions} kinds of corruption and their severities as a share of the clean one, "
    "which is {clean:.3f} on the same {n} images.",
    criterion="The lower bound of the 95% interval must be at least {threshold:.0%}. A clean mAP below {least_clean} "
    "is so little that a share of it tells nothing.",
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
    entries = results.entries(CORRUPTED_STUDY, role=role)
    left = precision_left(results, role)
    if left is None:
        return None
    least = config.table(DetectionCorruptionConfig).kept
    kinds = len({entry.task.cell.method for entry in entries})
    tells = left.share.n >= MIN_IMAGES and left.clean >= _LEAST_CLEAN
    verdict = at_least(left.share, least) if tells else "inconclusive"
    values = template_values(
        left.share, threshold=least, conditions=kinds, clean=left.clean, least_clean=f"{_LEAST_CLEAN:g}"
    )
    return CheckResult(verdict, left.share, cell_keys(entries), values)
