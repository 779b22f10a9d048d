"""Whether the pixels an explanation ranks first matter more to the model than random ones."""

from __future__ import annotations

import numpy as np

from audit.config import RunConfig
from audit.core.evidence import Array
from audit.core.registry import check
from audit.core.statistics import Interval, bootstrap_mean
from audit.document.display_names import display_name
from audit.results.check_result import CheckResult, above_zero, cap_at_warning, template_values
from audit.results.precision import unless_imprecise
from audit.results.queries import cell_keys, group_by_condition, on_clean_images, only_measured, per_example
from audit.results.run_results import RunResults, TaskResult


@check(
    section="explanations",
    title_pass="{method} points at pixels the {role} model uses",
    title_fail="{method} points at pixels that matter no more to the {role} model than random ones",
    title_inconclusive="Whether {method} points at pixels the {role} model uses cannot be told from {n} images",
    explanation="Pixels are deleted in the order {method} ranks them, and in a random order. Its advantage, in area "
    "under the score, is {estimate:+.3f} (95% interval {low:+.3f} to {high:+.3f}); 0 is no better than chance.",
    criterion="The lower bound of the 95% interval of the advantage over a random order must be above 0.",
    advice="Do not show this method's maps as reasons for this model; use one that passes.",
    advice_inconclusive="Explain more images before this method's maps are trusted, or dropped.",
    command="audit methods attribution",
    command_inconclusive="audit run --preset standard",
    reference="arXiv:1806.07421",
)
def deletion_against_random(results: RunResults, role: str, config: RunConfig) -> tuple[CheckResult, ...]:
    """The advantage of each method's deletion over a random order (Petsiuk et al. 2018, arXiv:1806.07421); one finding
    each.

    Args:
        results: The run.
        role: Role of the model.
        config: The configuration of the run; its criteria hold the thresholds.
    """
    entries = on_clean_images(results.entries("faithfulness", role=role))
    return tuple(
        _judge(results, role, at.method, only_measured(group))
        for at, group in group_by_condition(entries)
        if only_measured(group)
    )


def _judge(results: RunResults, role: str, method: str, entries: tuple[TaskResult, ...]) -> CheckResult:
    ranked, random = per_example(entries, "deletion_area"), per_example(entries, "deletion_area_random")
    advantage = deletion_advantage(ranked.values, random.values)
    return CheckResult(
        unless_imprecise(results, role, method, cap_at_warning(advantage, above_zero(advantage))),
        advantage,
        cell_keys(entries),
        template_values(advantage, method=display_name(method), identifier=method),
        unit="area",
    )


def deletion_advantage(ranked: Array, random: Array) -> Interval:
    """How much lower the deletion area of a map's order is than that of a random one, with its interval.

    Args:
        ranked: Area under each image's deletion curve by the map, (N,).
        random: The same by a random order, (N,).
    """
    return bootstrap_mean(np.asarray(random, np.float64) - ranked)
