"""Whether there are kinds of images on which a model is right, or withstands attack, less often."""

from __future__ import annotations

from audit.config import RunConfig
from audit.core.registry import check
from audit.metrics.weak_slices import SIGNIFICANCE
from audit.results.check_result import CheckResult, template_values
from audit.results.queries import cell_keys
from audit.results.run_results import RunResults
from audit.topics.slices.described import STUDIES, SliceOutcome, described_images, tested_slices
from audit.topics.slices.wording import describe_slice

MIN_SLICED = 200
"""Least images for a verdict: in fewer, a slice of a tenth has ten on which to test it."""
_SOUGHT = (
    "Of all kinds that brightness, contrast, sharpness, the object's size and place, the data's own columns and the "
    "model's features tell apart, the {tested} that looked weakest on one half of {n} images were tested on the other "
    "half; confirmed weaker: {weak}."
)
_ATTACKED = (
    "The same search over the {n} images that were attacked: the {tested} kinds that looked weakest on one half were "
    "tested on the other; confirmed weaker: {weak}."
)
_WORST = (
    " The gap of the first is {points:.0f} points (95% interval {low_points:.0f} to {high_points:.0f}), its corrected "
    "p-value {p_value:.2g}."
)
_CRITERION = (
    "No kind that was chosen on one half of the images may be weaker on the other, by Fisher's exact test at "
    "{significance:.0%}, corrected for their number (Holm)."
)
_ADVICE = "Look at these images, check their labels, and add such images to the training data; then audit again."
_MORE = "Give more test images: these are too few to tell kinds of them apart."


@check(
    section="slices",
    priority=20,
    title_pass="No kind of image was found on which the {role} model is right less often",
    title_fail="The {role} model is right on {rate:.1%} of one kind of image, and on {rest:.1%} of the others: {worst}",
    title_informative="{n} images are too few to find kinds on which the {role} model is right less often",
    explanation=_SOUGHT,
    explanation_warn=_SOUGHT + _WORST,
    criterion=_CRITERION,
    advice=_ADVICE,
    advice_informative=_MORE,
)
def weak_slices_clean(results: RunResults, role: str, config: RunConfig) -> CheckResult | None:
    """Kinds of images on which clean accuracy is lower.

    Args:
        results: The run.
        role: Role of the model.
        config: The configuration of the run, which names the seed.
    """
    return _conclusion(results, role, config, "clean")


@check(
    section="slices",
    priority=30,
    title_pass="No kind of image was found on which the {role} model withstands attack less often",
    title_fail="The {role} model withstands attack on {rate:.1%} of one kind of image, and on {rest:.1%} of the "
    "others: {worst}",
    title_informative="{n} attacked images are too few to find kinds on which the {role} model withstands less",
    explanation=_ATTACKED,
    explanation_warn=_ATTACKED + _WORST,
    criterion=_CRITERION,
    advice="Harden the model on more images of this kind, or keep it from deciding on them where images may be "
    "tampered with.",
    advice_informative="Attack more images: `--stop all` attacks as many as `robustness.examples` says, where the run "
    "stopped before; raise that where it did not.",
)
def weak_slices_robust(results: RunResults, role: str, config: RunConfig) -> CheckResult | None:
    """Kinds of images on which robust accuracy is lower.

    Args:
        results: The run.
        role: Role of the model.
        config: The configuration of the run, which names the seed.
    """
    return _conclusion(results, role, config, "robust")


def _conclusion(results: RunResults, role: str, config: RunConfig, outcome: SliceOutcome) -> CheckResult | None:
    described = described_images(results, role)
    if described is None or outcome not in described.outcomes:
        return None
    keys = cell_keys((*described.entries, *results.entries(STUDIES[outcome], role=role)))
    count = len(described.outcomes[outcome].values)
    tested = tested_slices(described, outcome, config.seed) if count >= MIN_SLICED else ()
    weak = [item for item in tested if item.is_weak]
    values = {"n": count, "tested": len(tested), "weak": len(weak), "significance": SIGNIFICANCE}
    if not weak:
        return CheckResult("pass" if count >= MIN_SLICED else "informative", None, keys, values)
    first = weak[0]
    told = template_values(
        first.gap,
        rate=first.rate.estimate,
        rest=first.rest.estimate,
        points=-100 * first.gap.estimate,
        low_points=-100 * first.gap.high,
        high_points=-100 * first.gap.low,
        p_value=first.p_value,
        worst=describe_slice(described, outcome, first.candidate),
    )
    return CheckResult("warn", first.gap, keys, {**told, **values})
