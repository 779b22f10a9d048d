"""Whether an attack that keeps the prediction moves explanations further than noise of the same size."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from audit.config import RunConfig
from audit.core.registry import check
from audit.core.statistics import bootstrap_mean
from audit.core.threat_format import format_threat
from audit.document.display_names import display_name
from audit.results.check_result import ADVICE_MORE_IMAGES, CheckResult, at_most, cap_at_warning, template_values
from audit.results.precision import unless_imprecise
from audit.results.queries import cell_keys, group_by_condition, only_measured, per_example
from audit.results.run_results import RunResults, TaskResult

MARGIN = 0.1
"""Most rank correlation with the clean map that an attack may cost beyond noise."""


@check(
    section="explanations",
    title_pass="{method} of the {role} model stays put under an attack that keeps the prediction",
    title_fail="{method} of the {role} model moves under an attack that keeps the prediction",
    title_inconclusive="Whether {method} of the {role} model moves under an attack that keeps the prediction cannot be "
    "told from {n} images",
    explanation="PGD ({threat}) that stops before the prediction changes leaves the map a rank correlation of "
    "{moved:.2f} with the clean one, noise of the same size {noise:.2f}: {estimate:+.3f} is lost beyond noise (95% "
    "interval {low:+.3f} to {high:+.3f}).",
    criterion="The upper bound of the 95% interval of the loss beyond noise must be at most {margin:.2f}.",
    advice="Do not let a decision hang on this map where images may be tampered with: it changes while the prediction "
    "does not.",
    advice_inconclusive=ADVICE_MORE_IMAGES,
    reference="arXiv:1710.10547",
)
def drift_at_constant_label(results: RunResults, role: str, config: RunConfig) -> tuple[CheckResult, ...]:
    """The rank correlation with the clean map that PGD at constant label costs beyond noise; one finding per method.

    Args:
        results: The run.
        role: Role of the model.
        config: The configuration of the run; its criteria hold the thresholds.
    """
    return tuple(_conclusions(results, role, "constant-label"))


@check(
    section="explanations",
    title_pass="{method} of the {role} model withstands being steered",
    title_fail="{method} of the {role} model can be steered while the prediction stays",
    title_inconclusive="Whether {method} of the {role} model can be steered cannot be told from {n} images",
    explanation="Images moved within {threat} so that the gradient turns and the prediction stays leave the map a rank "
    "correlation of {moved:.2f} with the clean one, noise of the same size {noise:.2f}: {estimate:+.3f} is lost beyond "
    "noise (95% interval {low:+.3f} to {high:+.3f}).",
    criterion="The upper bound of the 95% interval of the loss beyond noise must be at most {margin:.2f}.",
    advice="Do not offer this map as proof of what the model looks at to anyone who does not trust the image.",
    advice_inconclusive=ADVICE_MORE_IMAGES,
    reference="arXiv:1906.07983",
)
def steered_explanations(results: RunResults, role: str, config: RunConfig) -> tuple[CheckResult, ...]:
    """The rank correlation with the clean map that manipulation costs beyond noise; one finding per method.

    Args:
        results: The run.
        role: Role of the model.
        config: The configuration of the run; its criteria hold the thresholds.
    """
    return tuple(_conclusions(results, role, "manipulation"))


def _conclusions(results: RunResults, role: str, kind: str) -> Iterator[CheckResult]:
    for at, entries in group_by_condition(only_measured(results.entries("drift", role=role)), "kind"):
        if at.setting == kind and (result := _judge(at.method, format_threat(at.norm, at.eps), entries)):
            yield replace(result, verdict=unless_imprecise(results, role, at.method, result.verdict))


def _judge(method: str, threat: str, entries: tuple[TaskResult, ...]) -> CheckResult | None:
    """None where no image could be moved: there is no map to compare."""
    moved, noise = (per_example(entries, name).values for name in ("agreement", "agreement_random"))
    both = np.isfinite(moved) & np.isfinite(noise)
    if not both.any():
        return None
    lost = bootstrap_mean(noise[both] - moved[both])
    values = template_values(
        lost,
        method=display_name(method),
        identifier=method,
        threat=threat,
        margin=MARGIN,
        moved=float(moved[both].mean()),
        noise=float(noise[both].mean()),
    )
    return CheckResult(
        cap_at_warning(lost, at_most(lost, MARGIN)), lost, cell_keys(entries), values, unit="rank correlation"
    )
