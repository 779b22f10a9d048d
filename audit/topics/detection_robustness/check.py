"""Whether a detector still finds enough under attack, and whether the attacks are worth their name."""

from __future__ import annotations

from audit.config import RunConfig
from audit.core.registry import check
from audit.core.threat_format import format_threat
from audit.metrics.average_precision import paired_difference_of_map
from audit.results.check_result import MIN_IMAGES, CheckResult, above_zero, at_least, template_values
from audit.results.queries import cell_keys
from audit.results.run_results import RunResults
from audit.topics.detection_accuracy.measured import class_count
from audit.topics.detection_robustness import DetectionRobustnessConfig
from audit.topics.detection_robustness.measured import ATTACK_RESAMPLES, ATTACK_STUDY, attacked_detector


@check(
    section="detection_robustness",
    title_pass="The {role} detector keeps a mAP of {estimate:.3f} under attack within {threat}",
    title_fail="The {role} detector keeps a mAP of only {estimate:.3f} under attack within {threat}",
    title_inconclusive="{n} images do not tell whether the {role} detector keeps a mAP of {threshold:.2f} under attack",
    explanation="COCO's mAP on {n} images, each changed by the attack that left least; mAP was {clean:.3f} there "
    "before. Attacks only bound what is true from above: a stronger one may leave less.",
    criterion="The lower bound of the 95% interval must be at least {threshold:.2f}.",
    advice="Fine-tune the detector on attacked images.",
    command_fail="audit harden",
    advice_inconclusive="Attack more images: `detection_robustness.examples`.",
    reference="arXiv:2004.04320",
)
def robust_map(results: RunResults, role: str, config: RunConfig) -> CheckResult | None:
    """mAP under the worst of the attacks against `detection_robustness.mean_average_precision`.

    Args:
        results: The run.
        role: Role of the model.
        config: The configuration of the run, which holds the threshold.
    """
    entries = results.entries(ATTACK_STUDY, role=role)
    measured = attacked_detector(results, role, class_count(results, role)) if entries else None
    if measured is None:
        return None
    least = config.table(DetectionRobustnessConfig).mean_average_precision
    _, robust = measured.robust[measured.headline]
    values = template_values(
        robust,
        threshold=least,
        threat=format_threat(measured.attacks[0].facts.norm, measured.headline),
        clean=measured.clean_map.estimate,
    )
    verdict = at_least(robust, least) if robust.n >= MIN_IMAGES else "inconclusive"
    return CheckResult(verdict, robust, cell_keys(entries), values, unit="mAP")


@check(
    section="detection_robustness",
    title_pass="Attacks cost the {role} detector more than noise of their size does",
    title_fail="Attacks cost the {role} detector no more than noise of their size does",
    title_inconclusive="{n} images do not tell whether attacks cost the {role} detector more than noise",
    explanation="mAP under noise of the full size less mAP under the worst attack, on the same {n} images: "
    "{estimate:.3f}. An attack that beats noise by nothing tells of the attack, not of the detector.",
    criterion="The lower bound of the 95% interval must be above 0.",
    advice="Do not rely on the robust mAP above: search longer (`detection_robustness.steps`), and look at whether the "
    "detector's gradients lead anywhere.",
    reference="arXiv:1902.06705",
)
def detection_attack_control(results: RunResults, role: str, config: RunConfig) -> CheckResult | None:
    """mAP under noise less mAP under attack, paired by image (Carlini et al. 2019, arXiv:1902.06705).

    Args:
        results: The run.
        role: Role of the model.
        config: The configuration of the run.
    """
    entries = results.entries(ATTACK_STUDY, role=role)
    measured = attacked_detector(results, role, class_count(results, role)) if entries else None
    control = measured and next((a for a in measured.attacks if a.facts.control), None)
    if measured is None or not control:
        return None
    matches, _ = measured.robust[measured.headline]
    gap = paired_difference_of_map(control.matches, matches, resamples=ATTACK_RESAMPLES)
    if gap is None:
        return None
    verdict = above_zero(gap) if gap.n >= MIN_IMAGES else "inconclusive"
    return CheckResult(verdict, gap, cell_keys(entries), template_values(gap), unit="mAP")
