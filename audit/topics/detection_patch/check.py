"""Whether one patch hides objects, or makes a detector find what is not there, beyond what any patch does."""

from __future__ import annotations

from audit.config import RunConfig
from audit.core.registry import check
from audit.results.check_result import MIN_IMAGES, CheckResult, at_most, template_values
from audit.results.queries import cell_keys
from audit.results.run_results import RunResults
from audit.topics.detection_patch import DetectionPatchConfig
from audit.topics.detection_patch.measured import PatchedDetector, patched_detectors


@check(
    section="detection_robustness",
    title_pass="A patch that hides objects costs the {role} detector {estimate:.3f} of mAP beyond a control",
    title_fail="One patch hides objects from the {role} detector: it costs {estimate:.3f} of mAP more than a control",
    title_inconclusive="{n} images do not tell whether a patch hides objects from the {role} detector",
    explanation="One patch, made on {made_on} other images, covers {painted:.1%} of {n} images. Objects found: "
    "{clean:.0%} without it, {control:.0%} under a grey or random patch in its place, {patched:.0%} under it. mAP: "
    "{clean_map:.3f}, {control_map:.3f} and {patched_map:.3f}.",
    criterion="The upper bound of the 95% interval of mAP under the control less mAP under the patch must be at most "
    "{threshold:.2f}.",
    advice="Train with patched images, and do not rely on this detector alone where people can choose what they carry.",
    advice_inconclusive="Score more images: `detection_patch.examples`.",
    reference="arXiv:1904.08653",
    priority=12,
)
def hiding_patch(results: RunResults, role: str, config: RunConfig) -> CheckResult | None:
    """The excess of the patch that hides most over its control against `detection_patch.excess`.

    Args:
        results: The run.
        role: Role of the model.
        config: The configuration of the run, which holds the threshold.
    """
    patches = [some for some in patched_detectors(results, role) if some.facts.kind != "fake"]
    worst = max(patches, key=lambda some: some.excess.estimate, default=None)
    if worst is None:
        return None
    recalls = {name: condition.recall for name, condition in worst.conditions.items()}
    shares = {name: 0.0 if recall is None else recall.estimate for name, recall in recalls.items()}
    return _judged(worst, config, clean=shares["clean"], control=shares[worst.control], patched=shares["patch"])


@check(
    section="detection_robustness",
    title_pass="A patch that fakes objects costs the {role} detector {estimate:.3f} of mAP beyond a control",
    title_fail="One patch fakes objects for the {role} detector: it costs {estimate:.3f} of mAP more than a control",
    title_inconclusive="{n} images do not tell whether a patch fakes objects for the {role} detector",
    explanation="One patch, made on {made_on} other images, covers {painted:.1%} of {n} images. Boxes an image on no "
    "object: {clean:.2f} without it, {control:.2f} under a grey or random patch in its place, {patched:.2f} under it. "
    "mAP: {clean_map:.3f}, {control_map:.3f} and {patched_map:.3f}.",
    criterion="The upper bound of the 95% interval of mAP under the control less mAP under the patch must be at most "
    "{threshold:.2f}.",
    advice="Train with patched images, and do not let what follows act on a single frame's boxes.",
    advice_inconclusive="Score more images: `detection_patch.examples`.",
    reference="arXiv:1806.02299",
    priority=12,
)
def faking_patch(results: RunResults, role: str, config: RunConfig) -> CheckResult | None:
    """The excess of the patch that fakes objects over its control against `detection_patch.excess`.

    Args:
        results: The run.
        role: Role of the model.
        config: The configuration of the run, which holds the threshold.
    """
    patch = next((some for some in patched_detectors(results, role) if some.facts.kind == "fake"), None)
    if patch is None:
        return None
    faked = {name: condition.faked.estimate for name, condition in patch.conditions.items()}
    return _judged(patch, config, clean=faked["clean"], control=faked[patch.control], patched=faked["patch"])


def _judged(patch: PatchedDetector, config: RunConfig, **quantities: float) -> CheckResult:
    most = config.table(DetectionPatchConfig).excess
    precision = {name: condition.precision.estimate for name, condition in patch.conditions.items()}
    values = template_values(
        patch.excess,
        threshold=most,
        made_on=patch.facts.made_on,
        painted=patch.facts.painted,
        clean_map=precision["clean"],
        control_map=precision[patch.control],
        patched_map=precision["patch"],
        **quantities,
    )
    tells = patch.excess.n >= MIN_IMAGES and precision[patch.control] > most  # else there is not so much to lose
    verdict = at_most(patch.excess, most) if tells else "inconclusive"
    return CheckResult(verdict, patch.excess, cell_keys([patch.entry]), values, unit="mAP")
