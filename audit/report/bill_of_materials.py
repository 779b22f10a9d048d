"""A machine-learning bill of materials: CycloneDX 1.6, as cyclonedx.org/docs/1.6/json describes it."""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Iterator
from typing import Any

from audit.core.threat_format import format_threat
from audit.document.model import Proportion
from audit.document.sanitise import visible
from audit.document.schema import AuditDocument, AuditedModel
from audit.report.document import to_json
from audit.report.hand_over import HandOver
from audit.topics.accuracy.section import AccuracyPart
from audit.topics.corruptions.section import CorruptionRow
from audit.topics.robustness.section import RobustnessPart

_NO_PACKAGES = ("python", "device", "system")
_NAMESPACE = uuid.UUID("6f1d7a52-3c41-5a0e-9d55-0b1c7a8e2f10")


def render_bill_of_materials(document: AuditDocument, *, hand_over: HandOver | None = None) -> str:
    """The models of a run with what was measured of them, the data, and the packages they ran with.

    The serial number follows from the document, so that the same run has the same one.

    Args:
        document: The document.
        hand_over: The licence and the data sets, where somebody stated them.
    """
    stated = hand_over or HandOver()
    models = [_model(document, model, stated) for model in document.models]
    packages = [_package(name, str(version)) for name, version in _packages(document)]
    data = _data(document, stated)
    digest = hashlib.sha256(to_json(document).encode()).hexdigest()
    body: dict[str, Any] = {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{uuid.uuid5(_NAMESPACE, digest)}",
        "version": 1,
        "metadata": {
            "tools": {"components": [{"type": "application", "name": "audit", "version": document.tool["version"]}]},
            "properties": [{"name": "audit:document:sha256", "value": digest}],
        },
        "components": [*models[1:], data, *packages],
        "dependencies": [
            {"ref": model["bom-ref"], "dependsOn": [data["bom-ref"], *(p["bom-ref"] for p in packages)]}
            for model in models
        ],
    }
    if models:
        body["metadata"]["component"] = models[0]
    return json.dumps(body, indent=1, ensure_ascii=False) + "\n"


def _model(document: AuditDocument, model: AuditedModel, stated: HandOver) -> dict[str, Any]:
    channels, height, width = document.subject.input_shape
    properties = {
        "audit:role": model.role,
        "audit:identity": model.identity,
        "audit:parameters": str(model.parameters),
        "audit:origin": str(model.origin),
        "audit:verdict": document.summary.verdict,
    }
    component: dict[str, Any] = {
        "type": "machine-learning-model",
        "bom-ref": f"model-{model.role}",
        "name": visible(model.architecture),
        "version": visible(model.identity[:12]) or "unknown",
        "modelCard": {
            "modelParameters": {
                "task": "image-classification",
                "modelArchitecture": visible(model.architecture),
                "datasets": [{"ref": "data"}],
                "inputs": [{"format": f"images, {channels} x {height} x {width}, values in [0, 1]"}],
                "outputs": [{"format": f"scores of {len(document.subject.classes)} classes"}],
            },
            "quantitativeAnalysis": {"performanceMetrics": list(_metrics(document, model.role))},
            "considerations": {"technicalLimitations": list(_limits(document, model.role))},
        },
        "properties": [{"name": name, "value": visible(value)} for name, value in properties.items()],
    }
    if stated.license and model is document.models[0]:
        component["licenses"] = [{"license": {"name": stated.license}}]
    return component


def _data(document: AuditDocument, stated: HandOver) -> dict[str, Any]:
    classification = [{"name": "audit:examples", "value": str(document.subject.examples)}]
    classification += [{"name": "audit:dataset", "value": name} for name in stated.datasets]
    contents = {"type": "dataset", "name": visible(str(document.subject.data))}
    return {
        "type": "data",
        "bom-ref": "data",
        "name": visible(str(document.subject.data)),
        "data": [contents],
        "properties": classification,
    }


def _packages(document: AuditDocument) -> Iterator[tuple[str, Any]]:
    for name, version in sorted(document.protocol.environment.items()):
        if name not in _NO_PACKAGES and isinstance(version, str) and version[:1].isdigit():
            yield name, version


def _package(name: str, version: str) -> dict[str, Any]:
    locator = f"pkg:pypi/{name.lower().replace('_', '-')}@{version.replace('+', '%2B')}"
    return {"type": "library", "bom-ref": locator, "name": name, "version": version, "purl": locator}


def _metrics(document: AuditDocument, role: str) -> Iterator[dict[str, Any]]:
    for part in document.rows(AccuracyPart):
        if part.role == role:
            yield _metric("clean accuracy", part.accuracy)
            yield {"type": "expected calibration error", "value": str(part.calibration_error)}
    for row in document.rows(RobustnessPart):
        for point in row.curve:
            if row.role == role:
                yield _metric("robust accuracy (an upper bound)", point.robust, format_threat(row.norm, point.eps))
    for corrupted in document.rows(CorruptionRow):
        if corrupted.role == role:
            yield _metric("accuracy", corrupted.accuracy, f"{corrupted.name}, severity {corrupted.severity}")


def _metric(kind: str, share: Proportion, part: str = "") -> dict[str, Any]:
    interval = {"lowerBound": str(share.low), "upperBound": str(share.high)}
    metric = {"type": kind, "value": str(share.estimate), "confidenceInterval": interval}
    return metric | ({"slice": part} if part else {})


def _limits(document: AuditDocument, role: str) -> Iterator[str]:
    for finding in document.findings:
        if finding.role == role and finding.verdict in ("fail", "warn", "inconclusive"):
            yield visible(f"{finding.verdict}: {finding.title}")
