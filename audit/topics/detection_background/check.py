"""Whether objects of some class are found by their surroundings."""

from __future__ import annotations

from audit.config import RunConfig
from audit.core.registry import check
from audit.results.check_result import CheckResult
from audit.results.queries import cell_keys, only_measured
from audit.results.run_results import RunResults
from audit.topics.detection_background import DetectionBackgroundConfig
from audit.topics.detection_background.measured import ALPHA, BACKGROUND_STUDY, backgrounds


@check(
    section="detection_background",
    title_pass="No class was found to be recognised by its surroundings by the {role} detector",
    title_fail="The {role} detector finds objects by their surroundings: {count} of {classes} classes",
    title_inconclusive="Too few objects are found to say whether the {role} detector goes by surroundings",
    explanation="{n} objects that are found were hidden, and put into other images. The worst class: {hidden:.0%} "
    "still found when hidden, {lost:.0%} lost in other surroundings.",
    criterion="Of no class may more than {allowed_hidden:.0%} be found when hidden, or more than {allowed_lost:.0%} "
    "be lost when moved (exact binomial tests, Holm over classes and probes, 1%).",
    advice="Look at the training images of these classes: what always stands beside them must be shown without them, "
    "and they without it.",
    advice_inconclusive="Give more test images, or a detector that finds more.",
    reference="arXiv:2006.09994",
)
def detection_surroundings(results: RunResults, role: str, config: RunConfig) -> CheckResult | None:
    """Hidden objects still found and moved ones lost, by class, against what is allowed.

    Args:
        results: The run.
        role: Role of the model.
        config: The configuration of the run, which holds the thresholds.
    """
    entries = only_measured(results.entries(BACKGROUND_STUDY, role=role))
    if not entries:
        return None
    table = config.table(DetectionBackgroundConfig)
    rows = backgrounds(results, role, table.found_hidden, table.lost_moved)
    guilty = [row for row in rows if min(row.hidden_p, row.lost_p) < ALPHA]
    values: dict[str, str | float] = {
        "n": sum(len(entry.evidence.arrays["labels"]) for entry in entries),
        "count": len(guilty),
        "classes": len(rows),
        "hidden": max((row.hidden.estimate for row in rows), default=0.0),
        "lost": max((row.lost.estimate for row in rows), default=0.0),
        "allowed_hidden": table.found_hidden,
        "allowed_lost": table.lost_moved,
    }
    verdict = "inconclusive" if not rows else "fail" if guilty else "pass"
    return CheckResult(verdict, None, cell_keys(entries), values)  # type: ignore[arg-type]
