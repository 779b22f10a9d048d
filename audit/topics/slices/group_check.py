"""Whether the groups of a column of the data fare alike."""

from __future__ import annotations

from collections.abc import Iterator

from audit.config import RunConfig
from audit.core.image_options import ORIGINAL_ASPECT, ORIGINAL_SIDE
from audit.core.registry import check
from audit.metrics.slice_candidates import LABEL
from audit.results.check_result import CheckResult, at_most, template_values
from audit.results.queries import cell_keys
from audit.results.run_results import RunResults
from audit.topics.slices import SlicesConfig
from audit.topics.slices.described import OF_DATA, STUDIES, SliceOutcome, described_images
from audit.topics.slices.groups import groups_of

_NOT_GROUPS = (LABEL, OF_DATA + ORIGINAL_SIDE, OF_DATA + ORIGINAL_ASPECT)
"""Columns that no one wrote down to compare groups by."""

FEWEST_ATTACKED = 200
"""Least attacked images of which groups are judged: a run that stops early attacks 64, and shows them alone."""


@check(
    section="slices",
    priority=25,
    title_pass="The {role} model is right about as often in every group of {column}",
    title_fail="The {role} model is right {points:.0f} points less often for {worst} than for {best} ({column})",
    title_inconclusive="Whether the {role} model is right as often in every group of {column} cannot be told from {n} "
    "images",
    explanation="Accuracy by {column}, {groups} groups over {n} images: from {group_min:.1%} ({worst}) to "
    "{group_max:.1%} ({best}), a difference of {points:.0f} points (95% interval {low_points:.0f} to "
    "{high_points:.0f}, holding for all groups together).",
    criterion="The upper bound of the 95% interval of the difference between the best and the worst group must be at "
    "most {threshold_points:.0f} points.",
    advice="Look at the images of the group that fares worst, add such images to the training data, or do not use the "
    "model for this group.",
    advice_inconclusive="Give more test images of the small groups: these do not tell either way.",
)
def group_gap(results: RunResults, role: str, config: RunConfig) -> tuple[CheckResult, ...]:
    """The difference in accuracy between the groups of each column of the data, against `slices.gap`.

    Args:
        results: The run.
        role: Role of the model.
        config: The configuration of the run, which holds the threshold.
    """
    return tuple(_conclusions(results, role, config, "clean"))


@check(
    section="slices",
    priority=35,
    title_pass="The {role} model withstands attack about as often in every group of {column}",
    title_fail="The {role} model withstands attack {points:.0f} points less often for {worst} than for {best} "
    "({column})",
    title_inconclusive="Whether the {role} model withstands attack as often in every group of {column} cannot be told "
    "from {n} images",
    explanation="Robust accuracy by {column}, {groups} groups over {n} images: from {group_min:.1%} ({worst}) to "
    "{group_max:.1%} ({best}), a difference of {points:.0f} points (95% interval {low_points:.0f} to "
    "{high_points:.0f}, holding for all groups together).",
    criterion="The upper bound of the 95% interval of the difference between the best and the worst group must be at "
    "most {threshold_points:.0f} points.",
    advice="Harden the model on more images of the group that fares worst.",
    advice_inconclusive="Attack more images: `--stop all` attacks as many as `robustness.examples` says, where the run "
    "stopped before; raise that where it did not.",
    version="2",
)
def group_gap_under_attack(results: RunResults, role: str, config: RunConfig) -> tuple[CheckResult, ...]:
    """The difference in robust accuracy between the groups of each column of the data, against `slices.gap`.

    Args:
        results: The run.
        role: Role of the model.
        config: The configuration of the run, which holds the threshold.
    """
    return tuple(_conclusions(results, role, config, "robust"))


def _conclusions(results: RunResults, role: str, config: RunConfig, outcome: SliceOutcome) -> Iterator[CheckResult]:
    described = described_images(results, role)
    if described is None or outcome not in described.outcomes:
        return
    if outcome == "robust" and len(described.outcomes[outcome].values) < FEWEST_ATTACKED:
        return
    threshold = config.table(SlicesConfig).gap
    keys = cell_keys((*described.entries, *results.entries(STUDIES[outcome], role=role)))
    for column, rates in groups_of(described, outcome):
        if column in _NOT_GROUPS:
            continue
        by_share = sorted(rates.by_group, key=lambda name: rates.by_group[name].estimate)
        values = template_values(
            rates.difference,
            column=column.removeprefix(OF_DATA),
            identifier=column.removeprefix(OF_DATA),
            groups=len(by_share),
            worst=by_share[0],
            best=by_share[-1],
            group_min=rates.group_min,
            group_max=rates.group_max,
            points=100 * rates.difference.estimate,
            low_points=100 * rates.difference.low,
            high_points=100 * rates.difference.high,
            threshold_points=100 * threshold,
        )
        yield CheckResult(at_most(rates.difference, threshold), rates.difference, keys, values)
