"""What a tracker is told of a run: numbers with their bounds, parameters, tags and files."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from audit.core.evidence import Finding
from audit.core.threat_format import format_threat
from audit.document.model import Proportion
from audit.document.sanitise import visible
from audit.document.schema import AuditDocument
from audit.report.document import to_json
from audit.report.html import render_html
from audit.report.markdown import render_card, render_markdown
from audit.topics.accuracy.section import AccuracyPart
from audit.topics.corruptions.section import CorruptionRow
from audit.topics.robustness.section import RobustnessPart

_LONGEST_VALUE = 500  # characters of a parameter or a tag that every version of MLflow takes


@dataclass(frozen=True)
class TrackedRun:
    """A run as a tracker takes it.

    Attributes:
        name: Name of the run.
        metrics: Numbers by name, as ROLE/QUANTITY, with ROLE/QUANTITY_low and _high where there is an interval.
        series: By name, (epoch, value) of a training in this run.
        parameters: The configuration, flat, and what was audited.
        tags: The verdict in words, versions, fingerprints.
        summary: The verdict, the scorecard and the findings, in Markdown.
        files: Texts by name of file: the report, the document, the summary and the model card.
    """

    name: str
    metrics: Mapping[str, float]
    series: Mapping[str, list[tuple[int, float]]]
    parameters: Mapping[str, str]
    tags: Mapping[str, str]
    summary: str
    files: Mapping[str, str]


def tracked_run(document: AuditDocument, name: str = "") -> TrackedRun:
    """What a tracker is told of a run.

    Args:
        document: The document.
        name: Name of the run; empty for the architecture and the start of the model's fingerprint.
    """
    first = document.models[0] if document.models else None
    summary = render_markdown(document)
    return TrackedRun(
        name=name or (f"{first.architecture} {first.identity[:12]}" if first else "audit"),
        metrics=_metrics(document),
        series=_series(document),
        parameters={key: _short(value) for key, value in _parameters(document).items()},
        tags={key: _short(value) for key, value in _tags(document).items()},
        summary=summary,
        files={
            "report.html": render_html(document),
            "audit.json": to_json(document),
            "summary.md": summary,
            "model-card.md": render_card(document),
        },
    )


def metric_name(role: str, quantity: str, *subjects: object) -> str:
    """The name of a number: letters, digits, points, dashes and underscores, with one slash.

    Args:
        role: Role of the model.
        quantity: What was measured, such as the name of a check.
        *subjects: What tells apart several numbers of that quantity, such as the threat model; empty ones are left out.
    """
    words = [quantity, *(str(subject) for subject in subjects if subject)]
    return f"{_slug(role)}/{_slug(' '.join(words))}"


def _slug(text: str) -> str:
    return re.sub(r"[^\w.-]+", "_", text.replace("/", "-"), flags=re.ASCII).strip("_")


def _metrics(document: AuditDocument) -> dict[str, float]:
    metrics: dict[str, float] = {}
    for finding in document.findings:
        metrics |= _of_finding(finding)
    for name, share in _shares(document):
        metrics |= {name: share.estimate, f"{name}_low": share.low, f"{name}_high": share.high}
    for row in document.protocol.costs:
        for quantity, count in (("forwards", row.cost.forwards), ("backwards", row.cost.backwards)):
            name = metric_name(row.role, quantity)
            metrics[name] = metrics.get(name, 0) + count
    return metrics


def _of_finding(finding: Finding) -> dict[str, float]:
    if finding.estimate is None:
        return {}
    name = metric_name(
        finding.role, finding.check, finding.values.get("identifier", ""), finding.values.get("threat", "")
    )
    bounds = {f"{name}_low": finding.interval[0], f"{name}_high": finding.interval[1]} if finding.interval else {}
    return {name: finding.estimate, **bounds}


def _shares(document: AuditDocument) -> Iterator[tuple[str, Proportion]]:
    """The shares of the tables beside the findings: accuracy, each eps of the curve, each corruption."""
    for accuracy in document.rows(AccuracyPart):
        yield metric_name(accuracy.role, "clean-accuracy"), accuracy.accuracy
    for part in document.rows(RobustnessPart):
        for point in part.curve:
            yield metric_name(part.role, "robust-accuracy", format_threat(part.norm, point.eps)), point.robust
    for row in document.rows(CorruptionRow):
        yield metric_name(row.role, "accuracy-under", row.name, f"severity {row.severity}"), row.accuracy


def _series(document: AuditDocument) -> dict[str, list[tuple[int, float]]]:
    series: dict[str, list[tuple[int, float]]] = {}
    for model in document.models:
        for number, row in enumerate(model.history):
            for quantity, value in row.items():
                if quantity != "epoch":
                    name = metric_name(model.role, f"training {quantity}")
                    series.setdefault(name, []).append((int(row.get("epoch", number)), value))
    return series


def _parameters(document: AuditDocument) -> dict[str, Any]:
    parameters: dict[str, Any] = {"seed": document.protocol.seed}
    for model in document.models:
        parameters |= {f"{model.role}.architecture": model.architecture, f"{model.role}.recipe": model.recipe or "none"}
    return parameters | _flat(document.protocol.configuration)


def _flat(table: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in table.items():
        inner = isinstance(value, Mapping) and value
        flat |= _flat(value, f"{prefix}{key}.") if inner else {f"{prefix}{key}": value}
    return flat


def _tags(document: AuditDocument) -> dict[str, Any]:
    fingerprints = {f"audit.{model.role}.identity": model.identity for model in document.models}
    return {
        "audit.version": document.tool["version"],
        "audit.verdict": document.summary.verdict,
        "audit.sentence": document.summary.sentence,
        "audit.complete": str(document.summary.complete).lower(),
        "audit.data": str(document.subject.data),
        **fingerprints,
    }


def _short(value: Any) -> str:
    text = visible(str(value))
    return text if len(text) <= _LONGEST_VALUE else text[: _LONGEST_VALUE - 1] + "…"
