"""Comparing two runs example by example: what newly broke, what was repaired, and whether it is chance."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Iterator, Mapping
from typing import TypeVar

import numpy as np
from PIL import Image
from pydantic import Field

from audit.core.errors import UsageError
from audit.core.evidence import Finding, Verdict
from audit.core.looks import Look
from audit.core.note import Note, note
from audit.core.threat_format import format_threat
from audit.document.model import DocumentModel, Heatmap
from audit.document.schema import (
    AuditDocument,
    GalleryItem,
    OutcomeRow,
)
from audit.report.precision_changes import RunPrecisionChange, precision_changes, unpaired_precision
from audit.report.version_boundaries import boundaries_crossed
from audit.topics.comparison.section import ComparisonRow, common_look, compare_outcomes
from audit.topics.robustness.section import RobustnessPart

COMPARISON_SCHEMA_VERSION = 1
SIGNIFICANT = 0.05
"""Significance level of p-values that Holm's method has adjusted for the number of quantities."""


class Change(DocumentModel):
    """One quantity of one model on the examples of both runs.

    Attributes:
        role: Role of the model.
        row: Its shares in both runs and their difference.
        adjusted_p: The p-value of the row, adjusted for the number of quantities by Holm's method.
        regressed: Whether it fell and `adjusted_p` is below `SIGNIFICANT`.
        newly_wrong: Names of examples that were right before and are wrong now.
        newly_right: Names of examples that were wrong before and are right now.
    """

    role: str
    row: ComparisonRow
    adjusted_p: float
    regressed: bool
    newly_wrong: list[str]
    newly_right: list[str]


_Changed = TypeVar("_Changed", Change, RunPrecisionChange)


class VerdictChange(DocumentModel):
    """A finding whose verdict differs between the runs.

    Attributes:
        role: Role of the model.
        check: Name of the check.
        about: The method or threat model it is about; empty where the check has one finding.
        before: Verdict in the first run; None where it has no such finding.
        after: Verdict in the second run; None where it has no such finding.
        title: The finding's title.
        regressed: Whether it passed before and now fails or is inconclusive.
    """

    role: str
    check: str
    about: str
    before: Verdict | None
    after: Verdict | None
    title: str
    regressed: bool


class Agreement(DocumentModel):
    """How far the maps of both runs agree.

    Attributes:
        role: Role of the model.
        method: Name of the attribution method.
        correlation: Mean over images of Spearman's rank correlation of the two maps, in [-1, 1].
        n: Number of images in both galleries.
    """

    role: str
    method: str
    correlation: float
    n: int


class RunComparison(DocumentModel):
    """What changed from one run to another.

    Attributes:
        schema_version: Version of this model.
        before: Name of the first run.
        after: Name of the second run.
        shared_examples: Number of examples in both.
        changes: Each quantity of each model, regressions first.
        precision: mAP of each detector in each condition, regressions first.
        verdicts: Findings whose verdicts differ, regressions first.
        agreement: Agreement of the maps, by model and method.
        unpaired: What both runs measured but in different ways, so that it is not compared.
        versions: Changes of behaviour of the libraries that lie between the runs.
    """

    schema_version: int = COMPARISON_SCHEMA_VERSION
    before: str
    after: str
    shared_examples: int
    changes: list[Change]
    precision: list[RunPrecisionChange] = Field(default_factory=list)
    verdicts: list[VerdictChange]
    agreement: list[Agreement]
    unpaired: list[Note] = Field(default_factory=list)
    versions: list[Note] = Field(default_factory=list)

    @property
    def regressed(self) -> bool:
        """Whether a quantity fell beyond chance, or a verdict got worse."""
        return self.fell or any(change.regressed for change in self.verdicts)

    @property
    def fell(self) -> bool:
        """Whether a quantity fell beyond chance."""
        return any(c.regressed for c in self.changes) or any(c.regressed for c in self.precision)


def compare_documents(
    before: AuditDocument, after: AuditDocument, *, names: tuple[str, str] = ("before", "after")
) -> RunComparison:
    """Compare two runs on the same data.

    Args:
        before: Document of the first run.
        after: Document of the second run.
        names: Names of both runs.

    Raises:
        UsageError: They share no example, or have different classes.
    """
    shared = set(before.example_ids) & set(after.example_ids)
    if not shared or before.subject.classes != after.subject.classes:
        raise UsageError(
            "These two runs share no example or have other classes, so nothing in them can be paired. Compare runs on "
            "the same test data."
        )
    unpaired = dict(_other_attacks(before, after))
    changes = _holm(
        [change for change in _changes(before, after) if (change.role, change.row.quantity) not in unpaired],
        lambda change: change.row.difference,
    )
    precision = _holm(precision_changes(before, after), lambda change: change.row.difference.estimate)
    return RunComparison(
        before=names[0],
        after=names[1],
        shared_examples=len(shared),
        changes=sorted(changes, key=lambda change: (not change.regressed, change.row.difference)),
        precision=sorted(precision, key=lambda change: (not change.regressed, change.row.difference.estimate)),
        verdicts=sorted(_verdicts(before, after), key=lambda change: not change.regressed),
        agreement=list(_agreement(before, after)),
        unpaired=[*unpaired.values(), *unpaired_precision(before, after)],
        versions=list(boundaries_crossed(before.protocol.environment, after.protocol.environment)),
    )


def _changes(before: AuditDocument, after: AuditDocument) -> Iterator[Change]:
    later = {(row.role, row.quantity): row for row in after.outcomes}
    for row in before.outcomes:
        counterpart = later.get((row.role, row.quantity))
        if counterpart is None:
            continue
        first, second = _by_example(row, before.example_ids), _by_example(counterpart, after.example_ids)
        names = [name for name in first if name in second]
        if names:
            yield _change(row, names, first, second, common_look(row.look, counterpart.look))


def _other_attacks(before: AuditDocument, after: AuditDocument) -> Iterator[tuple[tuple[str, str], Note]]:
    """Robust accuracies, by role and quantity, that another battery measured in each run."""
    later = {(part.role, part.norm): part for part in after.rows(RobustnessPart)}
    for part in before.rows(RobustnessPart):
        other = later.get((part.role, part.norm))
        if other is None or _battery(part) == _battery(other):
            continue
        for point in part.curve:
            quantity = f"robust {format_threat(part.norm, point.eps)}"
            yield (
                (part.role, quantity),
                note(
                    "other_battery",
                    "{quantity} of the {role} model is not compared: the runs attacked with different batteries, "
                    "{first} and {second}.",
                    quantity=quantity,
                    role=part.role,
                    first=part.protocol or part.battery,
                    second=other.protocol or other.battery,
                ),
            )


def _battery(part: RobustnessPart) -> str:
    return f"{part.battery} {part.protocol}"


def _change(
    row: OutcomeRow, names: list[str], before: Mapping[str, bool], after: Mapping[str, bool], look: Look
) -> Change:
    comparison = compare_outcomes(
        row.quantity, np.array([before[n] for n in names]), np.array([after[n] for n in names]), look
    )
    return Change(
        role=row.role,
        row=comparison,
        adjusted_p=comparison.p_value,
        regressed=False,
        newly_wrong=[n for n in names if before[n] and not after[n]],
        newly_right=[n for n in names if after[n] and not before[n]],
    )


def _by_example(row: OutcomeRow, ids: list[str]) -> dict[str, bool]:
    names = ids[row.start : row.start + len(row.outcomes)]
    return {name: bit == "1" for name, bit in zip(names, row.outcomes, strict=True)}


def _holm(changes: list[_Changed], difference: Callable[[_Changed], float]) -> list[_Changed]:
    """Adjust the p-values by the step-down method of Holm 1979, and mark significant falls as regressions."""
    adjusted: dict[int, float] = {}
    floor = 0.0
    order = sorted(range(len(changes)), key=lambda i: changes[i].row.p_value)
    for rank, i in enumerate(order):
        floor = max(floor, min(1.0, (len(changes) - rank) * changes[i].row.p_value))
        adjusted[i] = floor
    return [
        change.model_copy(
            update={"adjusted_p": adjusted[i], "regressed": adjusted[i] < SIGNIFICANT and difference(change) < 0}
        )
        for i, change in enumerate(changes)
    ]


def _verdicts(before: AuditDocument, after: AuditDocument) -> Iterator[VerdictChange]:
    earlier, later = _by_subject(before.findings), _by_subject(after.findings)
    for subject in dict.fromkeys([*earlier, *later]):
        old, new = earlier.get(subject), later.get(subject)
        first, second = old.verdict if old else None, new.verdict if new else None
        finding = new or old
        if first != second and finding is not None:
            role, check, about = subject
            worse = first == "pass" and second in ("fail", "inconclusive")
            yield VerdictChange(
                role=role, check=check, about=about, before=first, after=second, title=finding.title, regressed=worse
            )


def _by_subject(findings: list[Finding]) -> dict[tuple[str, str, str], Finding]:
    return {(f.role, f.check, str(f.values.get("identifier") or f.values.get("threat") or "")): f for f in findings}


def _agreement(before: AuditDocument, after: AuditDocument) -> Iterator[Agreement]:
    later = {item.id: item for item in after.gallery}
    pairs = [(item, later[item.id]) for item in before.gallery if item.id in later]
    correlations: dict[tuple[str, str], list[float]] = {}
    for first, second in pairs:
        for role, method, correlation in _map_correlations(first, second):
            correlations.setdefault((role, method), []).append(correlation)
    for (role, method), values in correlations.items():
        yield Agreement(role=role, method=method, correlation=float(f"{np.mean(values):.6g}"), n=len(values))


def _map_correlations(before: GalleryItem, after: GalleryItem) -> Iterator[tuple[str, str, float]]:
    from scipy.stats import spearmanr  # a third of a second, which only a comparison needs

    later = {view.role: view for view in after.views}
    for view in before.views:
        for method, heatmap in view.maps.items():
            counterpart = later[view.role].maps.get(method) if view.role in later else None
            if counterpart is not None:
                first, second = _pixels(heatmap), _pixels(counterpart)
                if first.std() > 0 and second.std() > 0 and first.size == second.size:
                    yield view.role, method, float(spearmanr(first, second).statistic)


def _pixels(heatmap: Heatmap) -> np.ndarray:
    image = Image.open(io.BytesIO(base64.b64decode(heatmap.picture.data)))
    return np.asarray(image.convert("L"), np.float64).ravel()
