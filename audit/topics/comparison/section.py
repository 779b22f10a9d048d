"""Two models on the same examples: what newly broke, what was mended, and whether that is chance."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal

import numpy as np

from audit.core.evidence import Array
from audit.core.statistics import bootstrap_mean, mcnemar, paired_difference, share_of
from audit.core.threat_format import format_threat
from audit.report.further import controls_of
from audit.report.measured import share
from audit.report.schema import ComparisonRow, FaithfulnessRow
from audit.results.queries import (
    PerExample,
    clean_correct,
    group_by_condition,
    model_roles,
    on_clean_images,
    only_measured,
    per_example,
)
from audit.results.run_results import RunResults, TaskResult

Mode = Literal["deletion", "insertion"]


def comparison(dossier: RunResults) -> list[ComparisonRow]:
    """The first model against the last: clean and robust accuracy. Empty for a run of one model."""
    roles = model_roles(dossier)
    if len(roles) < 2:
        return []
    first, last = roles[0], roles[-1]
    rows = [row("clean", clean_correct(dossier, first), clean_correct(dossier, last))]
    before, after = _robust(dossier, first), _robust(dossier, last)
    rows += [row(f"robust {format_threat(*at[1:])}", before[at], after[at]) for at in before if at in after]
    return [found for found in rows if found is not None]


def row(quantity: str, before: PerExample, after: PerExample) -> ComparisonRow | None:
    """One quantity of two models on the examples both saw; None when there are none."""
    after = after.at(before.positions)
    before = before.at(after.positions)
    return compare(quantity, before.values > 0, after.values > 0) if before.values.size else None


def compare(quantity: str, before: Array, after: Array) -> ComparisonRow:
    """Yes-or-no outcomes (N,) of two models on the same examples: McNemar's test, Agresti and Min's interval."""
    test, change = mcnemar(before, after), paired_difference(before, after)
    return ComparisonRow(
        quantity=quantity,
        before=share(share_of(before)),
        after=share(share_of(after)),
        difference=change.estimate,
        low=change.low,
        high=change.high,
        p_value=test.p_value,
        newly_wrong=test.only_first,
        newly_right=test.only_second,
    )


def faithfulness(dossier: RunResults, role: str) -> list[FaithfulnessRow]:
    """Deletion and insertion of each method on clean images, beside a random order and the other controls."""
    entries = on_clean_images(dossier.entries("faithfulness", role=role))
    groups = [(at.method, only_measured(group)) for at, group in group_by_condition(entries) if only_measured(group)]
    return [
        _faithfulness(role, method, mode, fill, name, group)
        for method, group in groups
        for mode, fill, name in _measures(group)
    ]


def _measures(group: Sequence[TaskResult]) -> Iterator[tuple[Mode, str, str]]:
    """Mode, fill and measurement of each area that stands beside a random order's; the first fill goes unnamed."""
    names = {m.name for m in group[0].evidence.measurements}
    modes: tuple[Mode, ...] = ("deletion", "insertion")
    for position, fill in enumerate(group[0].evidence.facts.get("fills", ("",))):
        for mode in modes:
            name = f"{mode}_area" + (f"_{fill}" if position else "")
            if {name, f"{name}_random"} <= names:
                yield mode, str(fill), name


def _faithfulness(
    role: str, method: str, mode: Mode, fill: str, name: str, group: Sequence[TaskResult]
) -> FaithfulnessRow:
    ranked, random = (per_example(group, one).values for one in (name, f"{name}_random"))
    advantage = bootstrap_mean((1.0 if mode == "insertion" else -1.0) * (np.asarray(ranked, np.float64) - random))
    return FaithfulnessRow(
        role=role,
        method=method,
        measure=mode,
        fill=fill,
        area=float(np.mean(ranked)),
        control=float(np.mean(random)),
        advantage=advantage.estimate,
        low=advantage.low,
        high=advantage.high,
        n=advantage.n,
        protocol=str(group[0].evidence.facts.get("protocol", "")),
        controls=controls_of(name, group),
    )


def _robust(dossier: RunResults, role: str) -> dict[tuple[str, str, float], PerExample]:
    """By battery, norm and eps."""
    entries = dossier.entries("robustness", role=role)
    return {(at.method, at.norm, at.eps): per_example(group, "robust") for at, group in group_by_condition(entries)}
