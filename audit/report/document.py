"""Building the audit document from the results of a run, and its JSON, whose bytes depend on the answers alone."""

from __future__ import annotations

import json
import logging
import math
import re
import shlex
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from audit.config import RunConfig
from audit.core.errors import AuditError, SetupError, UsageError, fault_line
from audit.core.evidence import Finding
from audit.core.note import Note
from audit.core.topic import Topic, topics
from audit.document.locale import load_locale
from audit.document.measures import measures
from audit.document.sanitise import without_paths
from audit.document.schema import (
    SCHEMA_VERSION,
    AuditDocument,
    AuditedModel,
    AuditSubject,
    GalleryItem,
    Gap,
    Protocol,
    Summary,
    document_type,
)
from audit.document.section import Rows, SectionContext
from audit.planning.plan import FIRST_STUDIES
from audit.report.gallery import gallery
from audit.report.metadata import ModelMetadata, RunMetadata
from audit.report.outcomes import gaps, outcome_rows, stop_rows, study_costs, unfinished_rows
from audit.report.summary import by_severity, overall_verdict, verdict_sentences
from audit.report.upgrade import upgrade
from audit.results.facts import ModelFacts
from audit.results.queries import model_roles
from audit.results.run_checks import OnFault, run_checks
from audit.results.run_results import RunResults

log = logging.getLogger("audit")
DIGITS = 6
"""Significant digits of every number in the document; intervals here are wider than that."""


def build_document(results: RunResults, config: RunConfig, metadata: RunMetadata) -> AuditDocument:
    """The audit document of a run; the same results give the same document.

    Args:
        results: The plan with its evidence.
        config: The configuration of the run.
        metadata: Names, origins, images and commands.

    A check or a section that fails is a gap of the document, which is then incomplete.
    """
    faults = [
        Gap(study=t.name, method="", role="", status="failed", reason=Note.model_validate(why))
        for t in topics()
        if (why := t.load_checks())
    ]

    def on_fault(part: str, role: str, reason: str) -> None:
        log.error(reason)
        faults.append(Gap(study=part, method="", role=role, status="failed", reason=Note.model_validate(reason)))

    items = gallery(results, metadata) if config.report.images else []
    findings = by_severity([_completed(f, items, metadata.subject) for f in run_checks(results, config, on_fault)])
    context = SectionContext(
        config,
        metadata.classes,
        model_roles(results),
        config.report.images,
        findings,
        metadata.gallery,
        metadata.ids,
    )
    rows = _topic_rows(results, context, on_fault)
    document = document_type()(
        tool={"name": "audit", "version": metadata.version},
        summary=_summary(findings, results, config.only, complete=results.complete and not faults),
        stops=stop_rows(results, config),
        unfinished=unfinished_rows(results, findings, metadata.most_passes),
        subject=_subject(config, results, metadata),
        models=[_model(model, results) for model in metadata.models],
        findings=findings,
        gallery=items[: config.report.gallery],
        measures=measures(results),
        gaps=[*gaps(results), *faults],
        example_ids=list(metadata.ids),
        outcomes=[row for role in context.roles for row in outcome_rows(results, role)],
        protocol=_protocol(config, results, metadata),
        **rows,
    )
    return document_type().model_validate(_tidy(document.model_dump()))


def _topic_rows(results: RunResults, context: SectionContext, on_fault: OnFault) -> dict[str, Any]:
    """The rows of every topic, by document field."""
    rows: dict[str, Any] = {}
    for topic in topics():
        try:
            build = topic.function("section", "build")
            rows |= _checked(topic, build(results, context)) if build else {}
        except Exception as fault:
            reason = f"The section of topic {topic.name} ({topic.package}) failed: {fault_line(fault)}. What was "
            reason += "measured is kept in the run folder; mend the topic and run the same command again."
            on_fault(topic.name, "", reason)
    return rows


def _checked(topic: Topic, rows: Rows) -> dict[str, Any]:
    """Rows of the fields and of the kinds that a topic declares; anything else is its error."""
    for name in rows:
        if name not in topic.document:
            raise SetupError(f"it fills the document field {name!r}, which it does not declare")
    return {
        name: [topic.document[name].model_validate(row.model_dump()) for row in part] for name, part in rows.items()
    }


def to_json(document: AuditDocument) -> str:
    """The JSON of a document: sorted keys, one trailing newline, and `<`, `>` and `&` escaped so that it may stand in
    HTML.

    Args:
        document: The document.
    """
    text = json.dumps(document.model_dump(mode="json"), sort_keys=True, indent=1, ensure_ascii=False, allow_nan=False)
    return re.sub("[<>&\u2028\u2029]", lambda match: f"\\u{ord(match[0]):04x}", text) + "\n"


def schema_json() -> str:
    """The JSON Schema (draft 2020-12) of `audit.json`."""
    schema = document_type().model_json_schema()
    schema |= {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "audit.json"}
    return json.dumps(schema, sort_keys=True, indent=1) + "\n"


def read_document(path: Path) -> AuditDocument:
    """Read an `audit.json` of this version or an older one.

    Args:
        path: The file.

    Raises:
        AuditError: The run is not finished.
        UsageError: The file cannot be read, is no audit document, or is of a later version.
    """
    try:
        text = path.read_text(encoding="utf-8")
        raw = json.loads(text)
        version = raw.get("schema_version", 0)
        if isinstance(version, int) and version > SCHEMA_VERSION:
            raise UsageError(
                f"{path.name} has schema version {version}; this audit reads up to {SCHEMA_VERSION}. Upgrade audit."
            )
        return document_type().model_validate(upgrade(raw))
    except OSError as fault:
        if path.with_name("run.json").is_file():
            raise AuditError(
                f"The run in {path.parent} has not finished: it has no {path.name} yet. The command that began it "
                "goes on with it."
            ) from fault
        raise UsageError(
            f"Cannot read {path}: {fault.strerror}. Give a run folder that holds an audit.json."
        ) from fault
    except (ValidationError, ValueError, AttributeError, TypeError) as fault:
        raise UsageError(
            f"{path} is not an audit document: {str(fault).splitlines()[0]}. Run the audit again."
        ) from fault


def _summary(findings: list[Finding], results: RunResults, only: Sequence[str], *, complete: bool) -> Summary:
    roles = model_roles(results)
    return Summary(
        verdict=overall_verdict(findings, roles, only, cut=bool(results.cut_by)),
        sentence=" ".join(verdict_sentences(findings, roles, load_locale("en"), only, cut=bool(results.cut_by))),
        complete=complete,
        cut_by=results.cut_by,
    )


def _subject(config: RunConfig, results: RunResults, metadata: RunMetadata) -> AuditSubject:
    return AuditSubject(
        title=config.report.title,
        data=Note.model_validate(metadata.data),
        classes=list(metadata.classes),
        input_shape=metadata.shape,
        examples=max(
            (task.examples.stop for task in results.plan.tasks if task.cell.study in FIRST_STUDIES), default=0
        ),
        notes=list(metadata.notes),
    )


def _model(metadata: ModelMetadata, results: RunResults) -> AuditedModel:
    trained = [e for e in results.model_results(role=metadata.role) if e.evidence.status == "measured"]
    model_result = trained[0] if trained else None
    return AuditedModel(
        role=metadata.role,
        architecture=metadata.architecture,
        origin=Note.model_validate(metadata.origin),
        identity=metadata.identity,
        parameters=metadata.parameters,
        recipe=metadata.recipe,
        history=[_numbers(row) for row in model_result.evidence.facts_as(ModelFacts).history] if model_result else [],
        settings=dict(model_result.task.cell.settings) if model_result else {},
        notes=list(metadata.notes),
    )


def _numbers(row: Mapping[str, Any]) -> dict[str, float]:
    return {key: float(value) for key, value in row.items() if isinstance(value, int | float)}


_MODEL_COMMANDS = ("audit run", "audit harden")
"""Commands that take a model: the flags of this run's model and data are appended to them."""


def _completed(finding: Finding, items: list[GalleryItem], subject: str) -> Finding:
    changes: dict[str, Any] = {}
    if finding.command.startswith(_MODEL_COMMANDS):
        changes["command"] = f"{finding.command} {_without(subject, finding.command)}".strip()
    if not finding.examples:
        changes["examples"] = _example_images(finding, items)
    return finding.model_copy(update=changes)


def _without(flags: str, command: str) -> str:
    """Flags without the keys that a command sets itself."""
    own = {word.partition("=")[0] for word in shlex.split(command) if "=" in word}
    words = shlex.split(flags)
    dropped = {
        place + step
        for place, (flag, value) in enumerate(pairwise(words))
        if flag == "--set" and value.partition("=")[0] in own
        for step in (0, 1)
    }
    return shlex.join(word for place, word in enumerate(words) if place not in dropped)


def _example_images(finding: Finding, items: list[GalleryItem], count: int = 4) -> tuple[str, ...]:
    """Ids of gallery images that illustrate a finding."""
    method = str(finding.values.get("identifier", ""))
    views = [(item, view) for item in items for view in item.views if view.role == finding.role]
    if finding.section == "robustness":
        ids = [item.id for item, view in views if view.adversarial is not None]
    elif finding.section == "accuracy":
        wrong = [(view.confidence, item.id) for item, view in views if view.prediction != item.label]
        ids = [name for _, name in sorted(wrong, key=lambda pair: (-pair[0], pair[1]))]
    else:
        ids = [item.id for item, view in views if method in view.maps]
    return tuple(ids[:count])


def _protocol(config: RunConfig, results: RunResults, metadata: RunMetadata) -> Protocol:
    return Protocol(
        seed=config.seed,
        configuration=config.model_dump(mode="json"),
        environment=dict(metadata.environment),
        commands=dict(metadata.commands),
        trusted=[dict(file) for file in metadata.trusted],
        costs=study_costs(results),
    )


def _tidy(value: Any) -> Any:
    """Round numbers to `DIGITS` significant digits and cut absolute paths to their last part, in nested values."""
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
