"""What the page shows, gathered from the document: the templates only place it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from audit.core.threat_format import format_threat
from audit.report import charts
from audit.report.locale import Locale
from audit.report.method_table import MethodTable, method_table
from audit.report.schema import (
    AccuracyPart,
    AuditDocument,
    ClassRow,
    ComparisonRow,
    CorruptionRow,
    FindingPart,
    GalleryItem,
    GalleryView,
    RobustnessPart,
)
from audit.report.standards import ClauseCoverage, coverage
from audit.report.summary import by_severity, localised_text, sentences_of, top_findings
from audit.results.document_model import Proportion
from audit.topics.certification.check import THE_MODEL

SECTIONS = ("accuracy", "robustness", "corruptions", "explanations", "comparison", "protocol")


@dataclass(frozen=True)
class FindingView:
    """A finding in the reader's language with what shows it; `gauge` where a share is held to a bound."""

    finding: FindingPart
    title: str
    explanation: str
    criterion: str
    advice: str
    anchor: str
    witnesses: tuple[tuple[GalleryItem, GalleryView], ...]
    gauge: IntervalBar | None


@dataclass(frozen=True)
class IntervalBar:
    """An interval on a scale from 0 to 1 with the threshold it is held against."""

    low: float
    high: float
    estimate: float
    threshold: float


@dataclass(frozen=True)
class ScorecardRow:
    """One model's line at a glance; None where not measured."""

    role: str
    clean: Proportion | None
    robust: Proportion | None
    threat: str
    calibration: float | None
    corrupted: float | None
    passed: int
    total: int


@dataclass(frozen=True)
class ReportView:
    """Everything the templates place."""

    sentences: tuple[str, ...]
    roles: tuple[str, ...]
    scores: tuple[ScorecardRow, ...]
    first: tuple[FindingView, ...]
    by_section: dict[str, tuple[FindingView, ...]]
    charts: dict[str, Markup]
    recalls: tuple[tuple[str, tuple[ClassRow, ...]], ...]
    severities: tuple[int, ...]
    corruption_table: tuple[tuple[str, str, dict[int, Proportion]], ...]
    methods: tuple[str, ...]
    quantities: tuple[tuple[str, ComparisonRow], ...]
    labels: tuple[str, ...]
    method_table: MethodTable
    towards: tuple[ClauseCoverage, ...]


def build_view(document: AuditDocument, locale: Locale, *, draw: bool = True) -> ReportView:
    """The document as the page tells it in the locale's language; without its charts unless `draw`."""
    roles = tuple(model.role for model in document.models)
    only = document.protocol.configuration.get("only", ())
    told = [_told(f, document, locale, i) for i, f in enumerate(by_severity(document.findings))]
    first = top_findings(document.findings)
    return ReportView(
        sentences=tuple(sentences_of(document.findings, roles, locale, only)),
        roles=roles,
        scores=tuple(_score(role, document) for role in roles),
        first=tuple(next(t for t in told if t.finding is f) for f in first),
        by_section={s: tuple(t for t in told if t.finding.section == s) for s in SECTIONS},
        charts=_charts(document, locale) if draw else {},
        recalls=_recalls(document.accuracy),
        severities=tuple(sorted({row.severity for row in document.corruptions})),
        corruption_table=_corruption_table(document.corruptions),
        methods=_methods(document),
        quantities=tuple((_quantity(row.quantity, locale), row) for row in document.comparison),
        towards=coverage(document),
        method_table=method_table(document, ((t.anchor, t.finding) for t in told)),
        labels=tuple(dict.fromkeys(item.label for item in document.gallery)),
    )


def _methods(document: AuditDocument) -> tuple[str, ...]:
    """The methods with a map in the gallery, as the run ordered them."""
    drawn = {method for item in document.gallery for view in item.views for method in view.maps}
    known = dict.fromkeys(part.method for part in document.explanations)
    return (*(m for m in known if m in drawn), *sorted(drawn - set(known)))


def _recalls(parts: Sequence[AccuracyPart]) -> tuple[tuple[str, tuple[ClassRow, ...]], ...]:
    """Each class that has images with its row in every model, the one the first model finds least often first."""
    lines = zip(*([row for row in part.per_class if row.support] for part in parts), strict=True) if parts else ()
    return tuple((rows[0].name, rows) for rows in sorted(lines, key=lambda rows: rows[0].recall))


def _told(finding: FindingPart, document: AuditDocument, locale: Locale, index: int) -> FindingView:
    words = localised_text(finding, locale)
    return FindingView(
        finding=finding,
        title=words["title"],
        explanation=words["explanation"],
        criterion=words["criterion"],
        advice=words["advice"],
        anchor=f"finding-{index + 1}",
        witnesses=_witnesses(finding, document),
        gauge=_gauge(finding),
    )


def _witnesses(finding: FindingPart, document: AuditDocument) -> tuple[tuple[GalleryItem, GalleryView], ...]:
    return tuple(
        (item, view)
        for item in document.gallery
        for view in item.views
        if item.id in finding.examples and view.role == finding.role
    )


def _gauge(finding: FindingPart) -> IntervalBar | None:
    threshold = finding.values.get("threshold")
    if not isinstance(threshold, float) or finding.interval is None or finding.estimate is None:
        return None
    return IntervalBar(finding.interval[0], finding.interval[1], finding.estimate, threshold)


def _score(role: str, document: AuditDocument) -> ScorecardRow:
    accuracy = next((p for p in document.accuracy if p.role == role), None)
    robust = next((p for p in document.robustness if p.role == role), None)
    worn = [row.accuracy.estimate for row in document.corruptions if row.role == role]
    findings = [f for f in document.findings if f.role == role]
    return ScorecardRow(
        role=role,
        clean=accuracy.accuracy if accuracy else None,
        robust=_headline(robust) if robust else None,
        threat=format_threat(robust.norm, robust.eps) if robust else "",
        calibration=accuracy.calibration_error if accuracy else None,
        corrupted=sum(worn) / len(worn) if worn else None,
        passed=sum(f.verdict in ("pass", "informative") for f in findings),
        total=len(findings),
    )


def _headline(part: RobustnessPart) -> Proportion:
    return min(part.curve, key=lambda point: abs(point.eps - part.eps)).robust


def _charts(document: AuditDocument, locale: Locale) -> dict[str, Markup]:
    """By section; one robustness chart a norm, since eps of different norms share no axis."""
    drawn: dict[str, str] = {}
    if document.accuracy:
        drawn["accuracy"] = charts.reliability_diagram(document.accuracy, locale)
    norms = dict.fromkeys(part.norm for part in document.robustness)
    drawn["robustness"] = "".join(_robustness(document, norm, locale) for norm in norms)
    if any(row.measure == "deletion" for row in document.faithfulness):
        drawn["explanations"] = charts.faithfulness_chart(document.faithfulness, locale)
    if document.corruptions:
        drawn["corruptions"] = charts.corruption_chart(document.corruptions, locale)
    return {section: Markup(chart) for section, chart in drawn.items()}


def _robustness(document: AuditDocument, norm: str, locale: Locale) -> str:
    """The curve of every model under one norm, with what is proven of the models themselves."""
    parts = [part for part in document.robustness if part.norm == norm]
    proofs = [part for part in document.certificates if part.norm == norm and part.certifies == THE_MODEL]
    return charts.robustness_curve(parts, locale, proofs)


def _corruption_table(rows: Sequence[CorruptionRow]) -> tuple[tuple[str, str, dict[int, Proportion]], ...]:
    lines = dict.fromkeys((row.name, row.role) for row in rows)
    return tuple(
        (name, role, {row.severity: row.accuracy for row in rows if (row.name, row.role) == (name, role)})
        for name, role in sorted(lines, key=lambda line: line[0])
    )


def _quantity(name: str, locale: Locale) -> str:
    kind, _, threat = name.partition(" ")
    return locale("comparison.robust", threat=threat) if kind == "robust" else locale(f"comparison.{kind}")
