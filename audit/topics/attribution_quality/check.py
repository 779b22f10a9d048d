"""Which methods pass on this model: randomised weights, blind maps, small perturbations, other seeds."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from audit.config import RunConfig
from audit.core.evidence import Array, Verdict
from audit.core.registry import check
from audit.core.statistics import LEVEL, Interval, bootstrap_mean
from audit.document.display_names import display_name
from audit.results.check_result import (
    ADVICE_MORE_IMAGES,
    CheckResult,
    above_zero,
    at_least,
    at_most,
    cap_at_warning,
    template_values,
)
from audit.results.precision import unless_imprecise
from audit.results.queries import cell_keys, group_by_condition, only_measured, per_example
from audit.results.run_results import RunResults, TaskResult

MOST_SIMILAR = 0.5
"""Largest rank correlation with the map of a model with random weights, for a map that depends on learnt weights."""
MOST_SENSITIVE = 1.0
"""Largest relative change under a move of 2% of the range: at 1 the map changes by as much as its own length."""
LEAST_STABLE = 0.8
"""Least rank correlation between maps of two seeds, for a map that does not depend on the seed."""
BLIND = ("random", "edges")
"""Controls that do not depend on the model; the blurred map does, and is not among them."""


@check(
    section="explanations",
    title_pass="{method} depends on what the {role} model learnt",
    title_fail="{method} looks much the same when the weights of the {role} model are drawn anew",
    title_inconclusive="Whether {method} depends on what the {role} model learnt cannot be told from {n} images",
    explanation="With every weight drawn anew, the map keeps a rank correlation of {estimate:.2f} (95% interval "
    "{low:.2f} to {high:.2f}) with the model's own; near 0, the map rests on the weights.",
    criterion="The upper bound of the 95% interval of that correlation must be at most {threshold_rank:.2f}.",
    advice="Do not read this method's maps as what the model learnt: they mostly show the image or the architecture.",
    advice_inconclusive=ADVICE_MORE_IMAGES,
    reference="arXiv:1810.03292",
)
def randomised_weights(results: RunResults, role: str, config: RunConfig) -> tuple[CheckResult, ...]:
    """The agreement of each method's map with that of the model with all weights drawn anew; one finding per method.

    The model parameter randomisation test of Adebayo et al. 2018 (arXiv:1810.03292).

    Args:
        results: The run.
        role: Role of the model.
        config: The configuration of the run; its criteria hold the thresholds.
    """
    return tuple(
        _against_threshold(results, role, "randomisation_similarity", at_most, MOST_SIMILAR, "rank correlation")
    )


@check(
    section="explanations",
    title_pass="{method} changes little under small moves of the image, {role} model",
    title_fail="{method} changes as much as its own length under small moves of the image, {role} model",
    title_inconclusive="How much {method} changes under small moves of the image, {role} model, cannot be told from "
    "{n} images",
    explanation="The worst of a few moves within 2% of the pixel range changes the map by {estimate:.2f} of its own "
    "length (95% interval {low:.2f} to {high:.2f}).",
    criterion="The upper bound of the 95% interval of the relative change must be at most {threshold_rank:.2f}.",
    advice="Average the map over noise (SmoothGrad), or use a method that passes.",
    advice_inconclusive=ADVICE_MORE_IMAGES,
    reference="arXiv:1901.09392",
)
def sensitive_explanations(results: RunResults, role: str, config: RunConfig) -> tuple[CheckResult, ...]:
    """The max-sensitivity of each method (Yeh et al. 2019, arXiv:1901.09392); one finding per method.

    Args:
        results: The run.
        role: Role of the model.
        config: The configuration of the run; its criteria hold the thresholds.
    """
    return tuple(_against_threshold(results, role, "max_sensitivity", at_most, MOST_SENSITIVE, "share"))


@check(
    section="explanations",
    title_pass="{method} gives the {role} model much the same map from every seed",
    title_fail="{method} gives the {role} model another map from another seed",
    title_inconclusive="Whether the seed decides {method}'s map of the {role} model cannot be told from {n} images",
    explanation="Maps of the same image from different seeds have a rank correlation of {estimate:.2f} (95% interval "
    "{low:.2f} to {high:.2f}).",
    criterion="The lower bound of the 95% interval of that correlation must be at least {threshold_rank:.2f}.",
    advice="Give the method more samples.",
    advice_inconclusive=ADVICE_MORE_IMAGES,
    reference="arXiv:1910.07856",
)
def seeded_explanations(results: RunResults, role: str, config: RunConfig) -> tuple[CheckResult, ...]:
    """The agreement between seeds of each method that draws; one finding per method.

    Args:
        results: The run.
        role: Role of the model.
        config: The configuration of the run; its criteria hold the thresholds.
    """
    return tuple(_against_threshold(results, role, "seed_stability", at_least, LEAST_STABLE, "rank correlation"))


@check(
    section="explanations",
    title_pass="{method} ranks pixels for the {role} model better than maps that know nothing of it",
    title_fail="{method} ranks pixels for the {role} model worse than a map that knows nothing of it",
    title_inconclusive="Whether {method} ranks pixels for the {role} model better than maps that know nothing of it "
    "cannot be told from {n} images",
    explanation="Pixels ranked first are replaced by what surrounds them (ROAD). Beside the strongest of {count} blind "
    "maps (noise, an edge detector), {method} is ahead by {estimate:+.3f} in mean output (interval {low:+.3f} to "
    "{high:+.3f}, 95% over all of them together).",
    criterion="The lower bound of the interval of the advantage over every blind map must be above 0.",
    advice="Do not show this method's maps as reasons for this model: an edge detector or noise does as well.",
    advice_inconclusive=ADVICE_MORE_IMAGES,
    reference="arXiv:2202.00449",
)
def better_than_blind(results: RunResults, role: str, config: RunConfig) -> tuple[CheckResult, ...]:
    """The ROAD advantage of each method over the blind map that does best; one finding per method.

    ROAD is of Rong et al. 2022 (arXiv:2202.00449); the level of the intervals is corrected by Bonferroni.

    Args:
        results: The run.
        role: Role of the model.
        config: The configuration of the run; its criteria hold the thresholds.
    """
    return tuple(
        _against_blind(results, role, method, entries) for method, entries in _groups(results, role, "road_area")
    )


def _groups(results: RunResults, role: str, measurement: str) -> Iterator[tuple[str, tuple[TaskResult, ...]]]:
    for at, entries in group_by_condition(only_measured(results.entries("attribution-quality", role=role))):
        measured = tuple(e for e in entries if any(m.name == measurement for m in e.evidence.measurements))
        if measured:
            yield at.method, measured


def _against_threshold(
    results: RunResults,
    role: str,
    measurement: str,
    rule: Callable[[Interval, float], Verdict],
    threshold: float,
    unit: str,
) -> Iterator[CheckResult]:
    """Each method's mean of `measurement` against `threshold`; images without a value are left out."""
    for method, entries in _groups(results, role, measurement):
        values = per_example(entries, measurement).values
        values = values[np.isfinite(values)]
        if not values.size:
            continue
        mean = bootstrap_mean(values)
        texts = template_values(mean, method=display_name(method), identifier=method, threshold_rank=threshold)
        verdict = cap_at_warning(mean, rule(mean, threshold))
        if measurement != "seed_stability":  # which is there to show what imprecise maps are like
            verdict = unless_imprecise(results, role, method, verdict)
        yield CheckResult(verdict, mean, cell_keys(entries), texts, unit=unit)


def _against_blind(results: RunResults, role: str, method: str, entries: tuple[TaskResult, ...]) -> CheckResult:
    area = np.asarray(per_example(entries, "road_area").values, np.float64)
    weakest = blind_advantage(area, [per_example(entries, f"road_area_{name}").values for name in BLIND])
    texts = template_values(weakest, method=display_name(method), identifier=method, count=len(BLIND))
    verdict = unless_imprecise(results, role, method, cap_at_warning(weakest, above_zero(weakest)))
    return CheckResult(verdict, weakest, cell_keys(entries), texts, unit="mean output")


def blind_advantage(area: Array, blind: Sequence[Array]) -> Interval:
    """How much lower the ROAD area of a map is than that of the blind map that does best, with its interval.

    Args:
        area: Mean output while pixels are imputed in the map's order, (N,).
        blind: The same for each blind map, (N,); the level of the intervals is corrected for their number.

    Returns:
        The interval with the lowest lower bound.
    """
    ahead = [_finite(np.asarray(values, np.float64) - area) for values in blind]
    level = 1 - (1 - LEVEL) / len(blind)
    return min((bootstrap_mean(values, level=level) for values in ahead), key=lambda interval: interval.low)


def _finite(values: Array) -> Array:
    return np.asarray(values[np.isfinite(values)], np.float64)
