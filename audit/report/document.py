"""The audit document: built from a dossier, written as bytes that depend on the answers alone."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from audit.config import RunConfig
from audit.core.errors import UsageError
from audit.core.evidence import Finding
from audit.report import attack_evidence, further, measured
from audit.report.gallery import gallery
from audit.report.locale import load_locale
from audit.report.metadata import ModelMetadata, RunMetadata
from audit.report.sanitise import without_paths
from audit.report.schema import (
    SCHEMA_VERSION,
    AuditDocument,
    AuditedModel,
    AuditSubject,
    FindingPart,
    GalleryItem,
    Protocol,
    RobustnessPart,
    Summary,
)
from audit.report.summary import by_severity, overall_verdict, sentences_of
from audit.results.queries import model_roles
from audit.results.run_checks import run_checks
from audit.results.run_results import RunResults
from audit.storage.store import write_atomically
from audit.topics.comparison import section as paired
from audit.topics.compression.section import compressions
from audit.topics.other_threats import section as further_threats

DIGITS = 6
"""Significant digits kept of every number: more than any interval here supports."""


def build_document(dossier: RunResults, config: RunConfig, about: RunMetadata) -> AuditDocument:
    """Everything the run found. Pure: the same evidence gives the same document."""
    roles = model_roles(dossier)
    parts = [part for role in roles for part in measured.robustness(dossier, role)]
    items = gallery(dossier, about) if config.report.images else []
    findings = by_severity([_finding(f, items, about.subject) for f in run_checks(dossier, config.criteria)])
    document = AuditDocument(
        tool={"name": "audit", "version": about.version},
        summary=_summary(findings, dossier, config.only),
        subject=_subject(config, dossier, about),
        models=[_model(facts, dossier) for facts in about.models],
        findings=findings,
        accuracy=[p for role in roles if (p := measured.accuracy(dossier, role, about.classes))],
        robustness=parts,
        corruptions=[row for role in roles for row in measured.corruptions(dossier, role)],
        explanations=[part for role in roles for part in measured.explanations(dossier, role)],
        faithfulness=[row for role in roles for row in paired.faithfulness(dossier, role)],
        comparison=paired.comparison(dossier),
        compression=compressions(dossier),
        gallery=items[: config.report.gallery],
        gaps=measured.gaps(dossier),
        example_ids=list(about.ids),
        outcomes=[row for role in roles for row in measured.outcome_rows(dossier, role)],
        certificates=further.certificates(dossier, _curve_eps(parts)),
        attack_controls=attack_evidence.controls(dossier),
        distances=attack_evidence.distances(dossier),
        triggers=attack_evidence.triggers(dossier, pictures=config.report.images),
        further_threats=further_threats.further_threats(dossier),
        measures=further.measures(dossier),
        shortcuts=further.shortcuts(dossier),
        agreements=further.agreements(dossier),
        oracles=further.oracles(dossier),
        protocol=_protocol(config, dossier, about),
    )
    return AuditDocument.model_validate(_tidy(document.model_dump()))


def to_json(document: AuditDocument) -> str:
    """The document as text: sorted keys, one trailing newline, safe to stand inside a page."""
    text = json.dumps(document.model_dump(mode="json"), sort_keys=True, indent=1, ensure_ascii=False, allow_nan=False)
    return re.sub("[<>&\u2028\u2029]", lambda found: f"\\u{ord(found[0]):04x}", text) + "\n"


def schema_json() -> str:
    """The JSON Schema (draft 2020-12) every audit.json of this version obeys."""
    schema = AuditDocument.model_json_schema()
    schema |= {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "audit.json"}
    return json.dumps(schema, sort_keys=True, indent=1) + "\n"


def write_document(path: Path, document: AuditDocument) -> None:
    """Write `audit.json` in one step. Raises SetupError when the disk refuses."""
    write_atomically(path, to_json(document))


def read_document(path: Path) -> AuditDocument:
    """Read an `audit.json`, of this version or an older one. Raises UsageError that says what is wrong with it."""
    try:
        text = path.read_text(encoding="utf-8")
        version = json.loads(text).get("schema_version", 0)
        if isinstance(version, int) and version > SCHEMA_VERSION:
            raise UsageError(
                f"{path.name} has schema version {version}; this audit reads up to {SCHEMA_VERSION}. Upgrade audit."
            )
        return AuditDocument.model_validate_json(text)
    except OSError as fault:
        raise UsageError(
            f"Cannot read {path}: {fault.strerror}. Give a run folder that holds an audit.json."
        ) from fault
    except (ValidationError, ValueError, AttributeError) as fault:
        raise UsageError(
            f"{path} is not an audit document: {str(fault).splitlines()[0]}. Run the audit again."
        ) from fault


def _curve_eps(parts: list[RobustnessPart]) -> dict[str, list[float]]:
    """The eps attacked, by norm: where a certificate is worth setting beside."""
    norms = dict.fromkeys(part.norm for part in parts)
    return {norm: sorted({p.eps for part in parts if part.norm == norm for p in part.curve}) for norm in norms}


def _summary(findings: list[FindingPart], dossier: RunResults, only: Sequence[str]) -> Summary:
    roles = model_roles(dossier)
    return Summary(
        verdict=overall_verdict(findings, roles, only),
        sentence=" ".join(sentences_of(findings, roles, load_locale("en"), only)),
        complete=dossier.complete,
    )


def _subject(config: RunConfig, dossier: RunResults, about: RunMetadata) -> AuditSubject:
    return AuditSubject(
        title=config.report.title,
        data=about.data,
        classes=list(about.classes),
        input_shape=about.shape,
        examples=max((task.examples.stop for task in dossier.plan.tasks if task.cell.study == "accuracy"), default=0),
        notes=list(about.notes),
    )


def _model(facts: ModelMetadata, dossier: RunResults) -> AuditedModel:
    trained = [e for e in dossier.made(role=facts.role) if e.evidence.status == "measured"]
    learnt = trained[0] if trained else None
    return AuditedModel(
        role=facts.role,
        architecture=facts.architecture,
        origin=facts.origin,
        identity=facts.identity,
        parameters=facts.parameters,
        recipe=facts.recipe,
        history=[_numbers(row) for row in learnt.evidence.facts.get("history", ())] if learnt else [],
        settings=dict(learnt.task.cell.settings) if learnt else {},
        notes=list(facts.notes),
    )


def _numbers(row: Mapping[str, Any]) -> dict[str, float]:
    return {key: float(value) for key, value in row.items() if isinstance(value, int | float)}


_OF_A_MODEL = ("audit run", "audit harden")
"""Commands that speak of a model: what to do next is done to the model of this run, not to the sample."""


def _finding(found: Finding, items: list[GalleryItem], subject: str) -> FindingPart:
    part = FindingPart(
        **{k: getattr(found, k) for k in FindingPart.model_fields if k not in ("evidence", "examples", "values")},
        evidence=list(found.evidence),
        examples=list(found.examples),
        values=dict(found.values),
    )
    if part.command.startswith(_OF_A_MODEL):
        part = part.model_copy(update={"command": f"{part.command} {subject}".strip()})
    return part if part.examples else part.model_copy(update={"examples": _witnesses(part, items)})


def _witnesses(finding: FindingPart, items: list[GalleryItem], count: int = 4) -> list[str]:
    """Gallery images that show what the finding is about."""
    method = str(finding.values.get("identifier", ""))
    seen = [(item, view) for item in items for view in item.views if view.role == finding.role]
    if finding.section == "robustness":
        chosen = [item.id for item, view in seen if view.adversarial is not None]
    elif finding.section == "accuracy":
        wrong = [(view.confidence, item.id) for item, view in seen if view.prediction != item.label]
        chosen = [name for _, name in sorted(wrong, key=lambda pair: (-pair[0], pair[1]))]
    else:
        chosen = [item.id for item, view in seen if method in view.maps]
    return chosen[:count]


def _protocol(config: RunConfig, dossier: RunResults, about: RunMetadata) -> Protocol:
    return Protocol(
        seed=config.seed,
        configuration=config.model_dump(mode="json"),
        environment=dict(about.environment),
        commands=dict(about.commands),
        trusted=[dict(one) for one in about.trusted],
        costs=measured.study_costs(dossier),
    )


def _tidy(value: Any) -> Any:
    """Numbers to six significant digits, absolute paths to their last part, all through nested values."""
    if isinstance(value, float):
        return float(f"{value:.{DIGITS}g}") if math.isfinite(value) else None
    if isinstance(value, str):
        return without_paths(value)
    if isinstance(value, Mapping) and "media_type" in value:
        return value  # base64 is full of slashes
    if isinstance(value, Mapping):
        return {key: _tidy(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_tidy(item) for item in value]
    return value
