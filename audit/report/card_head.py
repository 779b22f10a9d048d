"""The YAML head of a model card, by which the Hugging Face Hub indexes it.

Its keys: huggingface.co/docs/hub/model-cards, "Model card metadata".
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from audit.core.threat_format import format_threat
from audit.document.model import Proportion
from audit.document.sanitise import visible
from audit.document.schema import AuditDocument
from audit.report.hand_over import HandOver
from audit.topics.accuracy.section import AccuracyPart
from audit.topics.corruptions.section import CorruptionRow
from audit.topics.robustness.section import RobustnessPart

_LIBRARIES = {"timm:": "timm", "hf:": "transformers", "onnx": "onnx", "keras": "keras"}
"""By how the name of an architecture begins, the library as the Hub names it; PyTorch otherwise."""


def card_head(document: AuditDocument, hand_over: HandOver) -> str:
    """The head: library, task, licence, data sets, and what was measured of the model under test.

    Args:
        document: The document.
        hand_over: The licence and the data sets, where somebody stated them.

    Returns:
        YAML between two lines of dashes.
    """
    first = document.models[0] if document.models else None
    architecture = visible(first.architecture) if first else "model"
    begin = architecture.lower()
    library = next((name for start, name in _LIBRARIES.items() if begin.startswith(start)), "pytorch")
    head: dict[str, Any] = {"license": hand_over.license.lower()} if hand_over.license else {}
    head |= {"library_name": library, "pipeline_tag": "image-classification"}
    if hand_over.datasets:
        head["datasets"] = list(hand_over.datasets)
    head["tags"] = ["image-classification", "model-audit"]
    metrics = list(_metrics(document, first.role)) if first else []
    if metrics:
        data = visible(str(document.subject.data))
        dataset = {"type": hand_over.datasets[0] if hand_over.datasets else _slug(data), "name": data}
        result = {"task": {"type": "image-classification"}, "dataset": dataset, "metrics": metrics}
        head["model-index"] = [{"name": architecture, "results": [result]}]
    return "---\n" + "\n".join(_yaml(head)) + "\n---\n"


def _metrics(document: AuditDocument, role: str) -> Iterator[dict[str, Any]]:
    for part in document.rows(AccuracyPart):
        if part.role == role:
            yield _metric("accuracy", "Clean accuracy", part.accuracy)
            yield {
                "type": "expected_calibration_error",
                "name": "Calibration error",
                "value": part.calibration_error,
                "args": {"n": part.accuracy.n},
            }
    for row in document.rows(RobustnessPart):
        for point in row.curve:
            if row.role == role:
                threat = format_threat(row.norm, point.eps)
                yield _metric("accuracy", f"Robust accuracy within {threat}, an upper bound", point.robust)
    for corrupted in document.rows(CorruptionRow):
        if corrupted.role == role:
            name = f"Accuracy under {corrupted.name}, severity {corrupted.severity}"
            yield _metric("accuracy", name, corrupted.accuracy)


def _metric(kind: str, name: str, share: Proportion) -> dict[str, Any]:
    bounds = {"confidence": 0.95, "low": share.low, "high": share.high, "n": share.n}
    return {"type": kind, "name": name, "value": share.estimate, "args": bounds}


def _slug(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-") or "data"


def _yaml(value: Any, depth: int = 0) -> Iterator[str]:
    """The lines of a mapping or a list; scalars as JSON, which YAML reads too."""
    space = "  " * depth
    rows = value.items() if isinstance(value, Mapping) else ((None, item) for item in value)
    for key, item in rows:
        begin = f"{space}{key}:" if key is not None else f"{space}-"
        if not isinstance(item, Mapping | list):
            yield f"{begin} {json.dumps(item, ensure_ascii=False)}"
        elif key is not None:
            yield begin
            yield from _yaml(item, depth + 1)
        else:
            inner = list(_yaml(item, depth + 1))
            yield f"{begin} {inner[0].strip()}"
            yield from inner[1:]
