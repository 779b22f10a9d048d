"""The view model of the HTML and Markdown templates: what they show, in the reader's language."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from audit.core.evidence import Finding
from audit.core.threat_format import format_threat
from audit.core.topic import sections
from audit.document.locale import Locale
from audit.document.model import Proportion
from audit.document.schema import AuditDocument, GalleryItem, GalleryView
from audit.report.answers import Answer, answers
from audit.report.standards import ClauseCoverage, coverage
from audit.report.summary import by_severity, localised_text, top_findings, verdict_sentences
from audit.report.topic_parts import OnPartFault, SectionView, section_views
from audit.topics.accuracy.section import AccuracyPart
from audit.topics.corruptions.section import CorruptedAccuracyRow, CorruptionRow
from audit.topics.detection_accuracy.section import DetectionPart
from audit.topics.detection_corruptions.section import DetectionCorruptionRow, RelativePrecisionRow
from audit.topics.explanations.section import ExplanationPart
from audit.topics.robustness.section import RobustnessPart


@dataclass(frozen=True)
class FindingView:
    """A finding in the reader's language.

    Attributes:
        finding: The finding.
        title: One sentence with the outcome.
        explanation: What was measured, and how.
        criterion: The condition to pass.
        advice: What to do; empty when the check passed.
        anchor: Its id in the page.
        example_images: Gallery images that illustrate it, as the model it is about sees them.
        interval_bar: Its interval beside its threshold; None where it has no threshold.
    """

    finding: Finding
    title: str
    explanation: str
    criterion: str
    advice: str
    anchor: str
    example_images: tuple[tuple[GalleryItem, GalleryView], ...]
    interval_bar: IntervalBar | None

    @property
    def about(self) -> str:
        """Whether it is about a method of explanation ("methods") or about the model ("model")."""
        return "methods" if "identifier" in self.finding.values else "model"


@dataclass(frozen=True)
class IntervalBar:
    """An interval beside the threshold it is compared with, drawn on a scale from 0 to 1.

    Attributes:
        low: Lower bound.
        high: Upper bound.
        estimate: The estimate.
        threshold: The threshold.
    """

    low: float
    high: float
    estimate: float
    threshold: float


@dataclass(frozen=True)
class ScorecardRow:
    """One model's row of the scorecard; None for what was not measured.

    Attributes:
        role: Role of the model.
        clean: Clean accuracy; of a detector its mAP.
        robust: The same under attack at the eps of the verdict.
        threat: That threat model in words; empty where robustness was not measured.
        calibration: Expected calibration error, in [0, 1]; of a detector that of its scores.
        calibration_interval: The same with its interval; None where the document has none.
        corrupted: Mean accuracy or mAP over corruptions and severities, in [0, 1].
        corrupted_interval: The same with its interval; None where the document has none.
        passed: Number of findings that passed or inform.
        total: Number of findings.
    """

    role: str
    clean: Proportion | None
    robust: Proportion | None
    threat: str
    calibration: float | None
    calibration_interval: Proportion | None
    corrupted: float | None
    corrupted_interval: Proportion | None
    passed: int
    total: int


@dataclass(frozen=True)
class ReportView:
    """Everything the templates show.

    Attributes:
        sentences: The verdict in words, one sentence per model.
        roles: Roles of the models, the one under test first.
        scorecard: One row per model.
        top_findings: The findings to read first.
        by_section: By section, its findings.
        sections: The sections that have something to show.
        methods: The methods with maps in the gallery.
        labels: The classes of the images in the gallery.
        coverage: Clauses of standards, and what the report has for each.
        answers: The questions a reader asks first, each with the gravest finding about it.
        detects: Whether the models are detectors.
    """

    sentences: tuple[str, ...]
    roles: tuple[str, ...]
    scorecard: tuple[ScorecardRow, ...]
    top_findings: tuple[FindingView, ...]
    by_section: dict[str, tuple[FindingView, ...]]
    sections: tuple[SectionView, ...]
    methods: tuple[str, ...]
    labels: tuple[str, ...]
    coverage: tuple[ClauseCoverage, ...]
    answers: tuple[Answer, ...] = ()
    detects: bool = False


def build_view(
    document: AuditDocument, locale: Locale, *, draw: bool = True, on_fault: OnPartFault | None = None
) -> ReportView:
    """The view of a document.

    Args:
        document: The document.
        locale: The reader's language.
        draw: Whether to draw the charts; without them there are no sections.
        on_fault: Told of a topic whose view fails; without it the error is raised.
    """
    roles = tuple(model.role for model in document.models)
    detects = bool(document.rows(DetectionPart))
    only = document.protocol.configuration.get("only", ())
    views = [_finding_view(f, document, locale, i) for i, f in enumerate(by_severity(document.findings))]
    top = top_findings(document.findings)
    shown = section_views(document, locale, [(v.anchor, v.finding) for v in views], on_fault) if draw else ()
    named = tuple(section.name for section in shown) if draw else sections()
    by_section = {s: tuple(v for v in views if _section_of(v.finding, named) == s) for s in (*named, "protocol")}
    return ReportView(
        sentences=tuple(verdict_sentences(document.findings, roles, locale, only, cut=bool(document.summary.cut_by))),
        roles=roles,
        scorecard=tuple(_scorecard_row(role, document) for role in roles),
        top_findings=tuple(next(v for v in views if v.finding is f) for f in top),
        by_section=by_section,
        answers=answers(by_section),
        sections=shown,
        methods=_methods(document),
        coverage=coverage(document, task="detection" if detects else "classification"),
        labels=tuple(dict.fromkeys(item.label for item in document.gallery)),
        detects=detects,
    )


def _methods(document: AuditDocument) -> tuple[str, ...]:
    """The methods with a map in the gallery, as the run ordered them."""
    with_maps = {method for item in document.gallery for view in item.views for method in view.maps}
    explained = dict.fromkeys(row.method for row in document.rows(ExplanationPart))
    return (*(m for m in explained if m in with_maps), *sorted(with_maps - set(explained)))


def _finding_view(finding: Finding, document: AuditDocument, locale: Locale, index: int) -> FindingView:
    words = localised_text(finding, locale)
    return FindingView(
        finding=finding,
        title=words["title"],
        explanation=words["explanation"],
        criterion=words["criterion"],
        advice=words["advice"],
        anchor=f"finding-{index + 1}",
        example_images=_example_images(finding, document),
        interval_bar=_interval_bar(finding),
    )


def _example_images(finding: Finding, document: AuditDocument) -> tuple[tuple[GalleryItem, GalleryView], ...]:
    return tuple(
        (item, view)
        for item in document.gallery
        for view in item.views
        if item.id in finding.examples and view.role == finding.role
    )


def _interval_bar(finding: Finding) -> IntervalBar | None:
    threshold = finding.values.get("threshold")
    if not isinstance(threshold, float) or finding.interval is None or finding.estimate is None:
        return None
    return IntervalBar(finding.interval[0], finding.interval[1], finding.estimate, threshold)


def _scorecard_row(role: str, document: AuditDocument) -> ScorecardRow:
    accuracy = next((p for p in document.rows(AccuracyPart) if p.role == role), None)
    robust = next((p for p in document.rows(RobustnessPart) if p.role == role), None)
    corrupted = [row.accuracy.estimate for row in document.rows(CorruptionRow) if row.role == role]
    findings = [f for f in document.findings if f.role == role]
    detector = next((p for p in document.rows(DetectionPart) if p.role == role), None)
    if detector is not None:
        return _detector_row(detector, document, findings)
    return ScorecardRow(
        role=role,
        clean=accuracy.accuracy if accuracy else None,
        robust=_headline(robust) if robust else None,
        threat=format_threat(robust.norm, robust.eps) if robust else "",
        calibration=accuracy.calibration_error if accuracy else None,
        calibration_interval=_calibration_interval(findings),
        corrupted=sum(corrupted) / len(corrupted) if corrupted else None,
        corrupted_interval=next((r.accuracy for r in document.rows(CorruptedAccuracyRow) if r.role == role), None),
        passed=sum(f.verdict in ("pass", "informative") for f in findings),
        total=len(findings),
    )


def _detector_row(detector: DetectionPart, document: AuditDocument, findings: Sequence[Finding]) -> ScorecardRow:
    worn = [
        row.mean_average_precision.estimate
        for row in document.rows(DetectionCorruptionRow)
        if row.role == detector.role
    ]
    attacks: Sequence[Any] = getattr(document, "detection_attacks", ())  # of a topic that may not be installed
    attacked = next((part for part in attacks if part.role == detector.role), None)
    return ScorecardRow(
        role=detector.role,
        clean=detector.mean_average_precision,
        robust=_headline(attacked) if attacked else None,
        threat=format_threat(attacked.norm, attacked.eps) if attacked else "",
        calibration=detector.calibration_error.estimate if detector.calibration_error else None,
        calibration_interval=detector.calibration_error,
        corrupted=sum(worn) / len(worn) if worn else None,
        corrupted_interval=next((r.mean for r in document.rows(RelativePrecisionRow) if r.role == detector.role), None),
        passed=sum(f.verdict in ("pass", "informative") for f in findings),
        total=len(findings),
    )


def _calibration_interval(findings: Sequence[Finding]) -> Proportion | None:
    """The interval that the check of calibration read; None in a run without that check."""
    for finding in findings:
        if finding.check == "calibration" and finding.estimate is not None and finding.interval is not None:
            low, high = finding.interval
            return Proportion(estimate=finding.estimate, low=low, high=high, n=finding.n, method="basic bootstrap 95%")
    return None


def _headline(row: Any) -> Proportion:
    """Of a part with a curve of robust accuracy or mAP, the point at its eps."""
    robust: Proportion = min(row.curve, key=lambda point: abs(point.eps - row.eps)).robust
    return robust


def _section_of(finding: Finding, named: Sequence[str]) -> str:
    """Where a finding stands: among the protocol where its section is not shown, as of a topic not installed here."""
    return finding.section if finding.section in named else "protocol"
