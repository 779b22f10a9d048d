"""Two models on the same examples: what newly broke, what was mended, and whether that is chance."""

from __future__ import annotations

import numpy as np

from audit.checks.readings import Outcomes, clean, corrupted, grouped, on_clean_images, outcomes, threat_text
from audit.dossier import Dossier
from audit.evidence import Array
from audit.report.measured import share
from audit.report.schema import ComparisonRow, FaithfulnessRow
from audit.statistics import bootstrap_mean, mcnemar, paired_difference, share_of


def comparison(dossier: Dossier) -> list[ComparisonRow]:
    """The first model against the last: clean and robust accuracy. Empty for a run of one model."""
    if len(dossier.roles) < 2:
        return []
    first, last = dossier.roles[0], dossier.roles[-1]
    rows = [row("clean", clean(dossier, first), clean(dossier, last))]
    before, after = _robust(dossier, first), _robust(dossier, last)
    rows += [row(f"robust {threat_text(*at[1:])}", before[at], after[at]) for at in before if at in after]
    return [found for found in rows if found is not None]


def row(quantity: str, before: Outcomes, after: Outcomes) -> ComparisonRow | None:
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


def mean_corruption(dossier: Dossier, role: str) -> tuple[float, int] | None:
    """Mean accuracy over corruptions and severities, with the number of images; None where not measured."""
    values = corrupted(dossier, role).values
    return (float(values.mean()), values.size) if values.size else None


def faithfulness(dossier: Dossier, role: str) -> list[FaithfulnessRow]:
    """Deletion and insertion of each method on clean images, beside a random order."""
    entries = on_clean_images(dossier.entries("faithfulness", role=role))
    rows: list[FaithfulnessRow] = []
    for at, group in grouped(entries):
        names = {m.name for e in group for m in e.evidence.measurements}
        protocol = str(group[0].evidence.facts.get("protocol", ""))
        if {"deletion_area", "deletion_area_random"} <= names:
            ranked, random = outcomes(group, "deletion_area").values, outcomes(group, "deletion_area_random").values
            rows.append(_faithfulness(role, at.method, "deletion", ranked, random, protocol))
        if {"insertion_area", "insertion_area_random"} <= names:
            ranked, random = outcomes(group, "insertion_area").values, outcomes(group, "insertion_area_random").values
            rows.append(_faithfulness(role, at.method, "insertion", ranked, random, protocol))
    return rows


def _faithfulness(role: str, method: str, measure: str, ranked: Array, random: Array, protocol: str) -> FaithfulnessRow:
    sign = 1.0 if measure == "insertion" else -1.0
    advantage = bootstrap_mean(sign * (np.asarray(ranked, np.float64) - random))
    return FaithfulnessRow.model_validate(
        {
            "role": role,
            "method": method,
            "measure": measure,
            "area": float(np.mean(ranked)),
            "control": float(np.mean(random)),
            "advantage": advantage.estimate,
            "low": advantage.low,
            "high": advantage.high,
            "n": advantage.n,
            "protocol": protocol,
        }
    )


def _robust(dossier: Dossier, role: str) -> dict[tuple[str, str, float], Outcomes]:
    """By battery, norm and eps."""
    entries = dossier.entries("robustness", role=role)
    return {(at.method, at.norm, at.eps): outcomes(group, "robust") for at, group in grouped(entries)}
