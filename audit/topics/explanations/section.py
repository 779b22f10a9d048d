"""What each method explains: rows of the document."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from audit.core.evidence import Status
from audit.core.note import NO_NOTE, Note
from audit.document.model import Cost, DocumentModel, cost_of
from audit.document.section import Rows, SectionContext
from audit.planning.settings import ExplanationSettings
from audit.results.facts import ExplanationFacts
from audit.results.queries import (
    group_by_condition,
    on_clean_images,
    per_example,
    with_parts,
)
from audit.results.run_results import RunResults, TaskResult
from audit.topics.explanations.consensus import consensus_rows


class ExplanationPart(DocumentModel):
    """One method on one model.

    Attributes:
        role: Role of the model.
        method: Name of the attribution method.
        status: Whether it was measured.
        reason: Why it was not; empty where it was.
        output: The output that is explained.
        baseline: What replaces missing pixels, in words; empty where the method has no use for it.
        segments: How images were segmented, in words; empty where they were not.
        settings: Settings of the method.
        quality: By name, the mean over images of what the method says of its own maps, such as the fit of a surrogate.
        cost: What it cost besides what it reused.
        shared: By method, the number of its masks that were reused.
        images: Number of images.
        precision: The error at which sampling stops, as a share of a map's size; None where all samples are taken, or
            none are.
        error: The error of a map as a share of its size, on average; None where the method gives none.
        reached: Number of maps that are as precise as asked; None where no precision was asked for.
    """

    role: str
    method: str
    status: Status
    reason: Note
    output: str
    baseline: Note | str
    segments: Note
    settings: dict[str, Any]
    quality: dict[str, float]
    cost: Cost
    shared: dict[str, int] = Field(default_factory=dict)
    images: int = 0
    precision: float | None = None
    error: float | None = None
    reached: int | None = None


def build(results: RunResults, context: SectionContext) -> Rows:
    """One row per model and method on clean images, and one per model and class.

    Args:
        results: The run.
        context: What the rows need besides the evidence.
    """
    return {
        "explanations": [row for role in context.roles for row in _explanations(results, role)],
        "consensus": consensus_rows(results, context),
    }


def _explanations(results: RunResults, role: str) -> list[ExplanationPart]:
    """One row a method on clean images, with the reason where it does not apply."""
    entries = on_clean_images(results.entries("explanation", role=role))
    return [_explanation(results, role, at.method, group) for at, group in group_by_condition(entries)]


def _explanation(results: RunResults, role: str, method: str, entries: tuple[TaskResult, ...]) -> ExplanationPart:
    first = entries[0].evidence
    facts = first.facts_as(ExplanationFacts)
    quality = {m.name: per_example(entries, m.name).values for m in first.measurements}
    reached = quality.pop("reached", None)
    error = quality.pop("error", None)
    settings = ExplanationSettings.of(first.cell).method
    return ExplanationPart(
        role=role,
        method=method,
        status=first.status,
        reason=Note.model_validate(first.reason),
        output=facts.output,
        baseline=facts.baseline or "",
        segments=facts.segments or NO_NOTE,
        settings=settings,
        quality={name: float(values.mean()) for name, values in quality.items()},
        cost=cost_of(with_parts(results, entries)),
        shared=facts.shared or {},
        images=sum(entry.task.examples.stop - entry.task.examples.start for entry in entries),
        precision=settings.get("precision"),
        error=None if error is None else float(error.mean()),
        reached=None if reached is None else int(reached.sum()),
    )
