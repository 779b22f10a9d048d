"""What compression saved: sizes in the document; latencies beside it, since they differ from run to run."""

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
        agreement: Share of test images on which the kernels and the audited model predict the same class; None without
            kernels.
        logit_difference: The largest difference of their logits; None without kernels.
    """

    agreement: Proportion | None = None
    logit_difference: float | None = None


class CompressionPart(DocumentModel):
    """A smaller model beside its parent.

    Attributes:
        role: Role of the smaller model.
        method: The compression.
        amount: Its parameter: the share pruned or the standard deviations clipped at; None where it has none.
        architecture: Architecture of the smaller model.
        fine_tuned_epochs: Epochs of training after the compression.
        parent: Size of the parent.
        variant: Size of the smaller model.
        explained: Number of images that both models were explained on.
        same_prediction: Those on which both predict the same class; only their maps are compared.
        cut: Whether channels were removed.
        spared: Hidden layers that channel pruning left whole.
        int8: How int8 was computed; None for other methods.
    """

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
    """Latency of one forward pass of a batch.

    Attributes:
        images: Images in the batch.
        parent: Median over runs of the parent, in milliseconds.
        variant: Median over runs of the smaller model, in milliseconds.
        ratio: Mean of variant over parent, over runs in alternation.
    """

    images: int
    parent: float
    variant: float
    ratio: Interval


def build(results: RunResults, context: SectionContext) -> Rows:
    """One row per model that was compressed in the run.

    Args:
        results: The run.
        context: What the rows need besides the evidence.
    """
    return {"compression": [_row(results, entry) for entry in only_measured(results.entries("compression"))]}


def latencies_of(results: RunResults) -> list[dict[str, Any]]:
    """The seconds of each timed pass, for the run's timing.json.

    Args:
        results: The run.
    """
    return [
        row for e in only_measured(results.entries("compression")) for row in e.evidence.environment.get("latency", ())
    ]


def read_latencies(timing: Path) -> tuple[LatencyRow, ...]:
    """Read the latencies in a run's timing.json.

    Args:
        timing: The file.

    Returns:
        The latencies; empty where the file is missing or cannot be read.
    """
    try:
        rows: Sequence[Mapping[str, Any]] = json.loads(timing.read_text(encoding="utf-8")).get("latency", ())
        return tuple(_latency(row) for row in rows)
    except (OSError, ValueError, KeyError, AttributeError, TypeError):
        return ()  # a file beside the document that anybody may have removed or written over


def _latency(row: Mapping[str, Any]) -> LatencyRow:
    ratios = [new / old for old, new in zip(row["parent"], row["variant"], strict=True)]
    parent, variant = (1000 * statistics.median(row[key]) for key in ("parent", "variant"))
    return LatencyRow(int(row["images"]), parent, variant, bootstrap_mean(ratios))


def _row(results: RunResults, entry: TaskResult) -> CompressionPart:
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
    agrees, differences = (per_example(compared, name).values for name in ("agrees", "logit_difference"))
    return Int8Part(
        **facts.model_dump(),
        agreement=proportion(share_of(agrees)) if len(agrees) else None,
        logit_difference=float(differences.max()) if len(differences) else None,
    )
