"""What compressing a model saved: its size in the document, its speed beside the run, where no bytes are promised."""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import Field

from audit.core.statistics import Interval, bootstrap_mean, share_of
from audit.document.model import DocumentModel, Proportion, proportion
from audit.document.section import Rows, SectionContext
from audit.results.queries import only_measured, per_example
from audit.results.run_results import RunResults, TaskResult

BETWEEN = "between-models"
"""The condition of the measurements that compare the maps of two models."""


class SizePart(DocumentModel):
    """A model's parameters, those that are not zero, the bytes of its weights as stored, and those after zlib."""

    parameters: int
    nonzero: int
    bytes: int
    compressed_bytes: int


class Int8Part(DocumentModel):
    """How int8 was computed: in the kernels of `engine`, "" where this machine has none; its input ranges from
    `calibrated` training images, 0 for weights alone; `in_float`, the layers with weights outside int8. The `agreement`
    of kernels and audited model on the test images, and the largest difference of their logits."""

    engine: str
    calibrated: int
    in_float: list[str]
    agreement: Proportion | None = None
    logit_difference: float | None = None


class CompressionPart(DocumentModel):
    """A smaller model beside its parent. `amount` is the method's one number, None where it has none; of `explained`
    images both predict the same class on `same_prediction`: only their maps are compared. `cut` when pruned channels
    left the net; `spared` are the hidden layers then left whole."""

    role: str
    method: str
    amount: float | None
    architecture: str
    fine_tuned_epochs: int
    parent: SizePart
    variant: SizePart
    explained: int
    same_prediction: int
    cut: bool = False
    spared: list[str] = Field(default_factory=list)
    int8: Int8Part | None = None


@dataclass(frozen=True)
class LatencyRow:
    """Milliseconds for one forward of `images`: the medians of runs in turn, and the mean of variant over parent."""

    images: int
    parent: float
    variant: float
    ratio: Interval


def build(results: RunResults, context: SectionContext) -> Rows:
    """A part for each model made smaller here."""
    return {"compression": [_part(results, entry) for entry in only_measured(results.entries("compression"))]}


def latencies_of(results: RunResults) -> list[dict[str, Any]]:
    """The seconds of each run, for the run's timing: they are another's on the next run."""
    return [
        row for e in only_measured(results.entries("compression")) for row in e.evidence.environment.get("latency", ())
    ]


def read_latencies(timing: Path) -> tuple[LatencyRow, ...]:
    """The latencies kept in a run's timing.json; none where there is no such file."""
    try:
        rows: Sequence[Mapping[str, Any]] = json.loads(timing.read_text(encoding="utf-8")).get("latency", ())
        return tuple(_latency(row) for row in rows)
    except (OSError, ValueError, KeyError, AttributeError, TypeError):
        return ()  # a file beside the document that anybody may have removed or written over


def _latency(row: Mapping[str, Any]) -> LatencyRow:
    ratios = [new / old for old, new in zip(row["parent"], row["variant"], strict=True)]
    parent, variant = (1000 * statistics.median(row[which]) for which in ("parent", "variant"))
    return LatencyRow(int(row["images"]), parent, variant, bootstrap_mean(ratios))


def _part(results: RunResults, entry: TaskResult) -> CompressionPart:
    cell, facts = entry.task.cell, entry.evidence.facts
    maps = [e.evidence.facts for e in only_measured(results.entries("drift", role=entry.task.role))]
    compared = next((one for one in maps if one.get("kind") == BETWEEN), {})
    return CompressionPart(
        role=entry.task.role,
        method=cell.method,
        amount=cell.settings["amount"],
        architecture=str(cell.settings["architecture"]),
        fine_tuned_epochs=len(facts["history"]),
        parent=SizePart(**facts["parent"]),
        variant=SizePart(**facts["variant"]),
        explained=int(compared.get("examples", 0)),
        same_prediction=int(compared.get("same_prediction", 0)),
        cut=bool(facts.get("cut", False)),
        spared=list(facts.get("spared", ())),
        int8=_int8(results, entry.task.role, facts["int8"]) if "int8" in facts else None,
    )


def _int8(results: RunResults, role: str, facts: Mapping[str, Any]) -> Int8Part:
    compared = results.entries("int8-engine", role=role)
    agrees, apart = (per_example(compared, name).values for name in ("agrees", "logit_difference"))
    return Int8Part(
        engine=facts["engine"],
        calibrated=facts["calibrated"],
        in_float=facts["in_float"],
        agreement=proportion(share_of(agrees)) if len(agrees) else None,
        logit_difference=float(apart.max()) if len(apart) else None,
    )
