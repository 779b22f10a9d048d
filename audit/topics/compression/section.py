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
from audit.planning.settings import ModelSettings
from audit.results.queries import only_measured, per_example
from audit.results.run_results import RunResults, TaskResult
from audit.topics.compression.facts import CompressionFacts, Int8Facts, SizePart
from audit.topics.drift.facts import BETWEEN, DriftFacts


class Int8Part(Int8Facts):
    """How int8 was computed, and how it answers.

    Attributes:
        agreement: Share of test images on which kernels and audited model predict one class; None without kernels.
        logit_difference: The largest difference of their logits.
    """

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
    settings, facts = ModelSettings.of(entry.task.cell), entry.evidence.facts_as(CompressionFacts)
    maps = [e.evidence.facts_as(DriftFacts) for e in only_measured(results.entries("drift", role=entry.task.role))]
    compared = next((drift for drift in maps if drift.kind == BETWEEN), DriftFacts())
    return CompressionPart(
        role=entry.task.role,
        method=entry.task.cell.method,
        amount=settings.amount,
        architecture=settings.architecture,
        fine_tuned_epochs=len(facts.history),
        parent=facts.parent,
        variant=facts.variant,
        explained=compared.examples,
        same_prediction=compared.same_prediction,
        cut=facts.cut,
        spared=list(facts.spared),
        int8=None if facts.int8 is None else _int8(results, entry.task.role, facts.int8),
    )


def _int8(results: RunResults, role: str, facts: Int8Facts) -> Int8Part:
    compared = results.entries("int8-engine", role=role)
    agrees, apart = (per_example(compared, name).values for name in ("agrees", "logit_difference"))
    return Int8Part(
        **facts.model_dump(),
        agreement=proportion(share_of(agrees)) if len(agrees) else None,
        logit_difference=float(apart.max()) if len(apart) else None,
    )
