"""Deletion and insertion beside their controls: rows of the document."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal

import numpy as np
from pydantic import Field

from audit.core.note import Note
from audit.core.statistics import bootstrap_mean
from audit.document.measures import controls_of
from audit.document.model import DocumentModel
from audit.document.section import Rows, SectionContext
from audit.results.queries import (
    group_by_condition,
    on_clean_images,
    only_measured,
    per_example,
)
from audit.results.run_results import RunResults, TaskResult
from audit.topics.faithfulness.facts import FaithfulnessFacts

Mode = Literal["deletion", "insertion"]


class FaithfulnessRow(DocumentModel):
    """Deletion or insertion of the pixels a method ranks first, beside a random order.

    Attributes:
        role: Role of the model.
        method: Name of the attribution method.
        measure: "deletion" or "insertion".
        fill: What replaces missing pixels; rows of the first fill come first, and those are drawn and judged.
        area: Mean area under the curve of the method's order.
        control: Mean area under the curve of a random order.
        advantage: How much better than random it is; above 0 is better.
        low: Lower bound of its 95% interval.
        high: Upper bound.
        n: Number of images.
        protocol: The protocol in words.
        controls: By control, its mean area.
    """

    role: str
    method: str
    measure: Literal["deletion", "insertion"]
    fill: str = ""
    area: float
    control: float
    advantage: float
    low: float
    high: float
    n: int
    protocol: Note
    controls: dict[str, float] = Field(default_factory=dict)


def build(results: RunResults, context: SectionContext) -> Rows:
    """Deletion and insertion of each model and method.

    Args:
        results: The run.
        context: What the rows need besides the evidence.
    """
    return {"faithfulness": [row for role in context.roles for row in _rows(results, role)]}


def _rows(results: RunResults, role: str) -> list[FaithfulnessRow]:
    """Deletion and insertion of each method on clean images, beside a random order and the other controls."""
    entries = on_clean_images(results.entries("faithfulness", role=role))
    groups = [(at.method, only_measured(group)) for at, group in group_by_condition(entries) if only_measured(group)]
    return [
        _faithfulness(role, method, mode, fill, name, group)
        for method, group in groups
        for mode, fill, name in _measures(group)
    ]


def _measures(group: Sequence[TaskResult]) -> Iterator[tuple[Mode, str, str]]:
    """Mode, fill and measurement of each area that stands beside a random order's; the first fill goes unnamed."""
    names = {m.name for m in group[0].evidence.measurements}
    modes: tuple[Mode, ...] = ("deletion", "insertion")
    for position, fill in enumerate(group[0].evidence.facts_as(FaithfulnessFacts).fills):
        for mode in modes:
            name = f"{mode}_area" + (f"_{fill}" if position else "")
            if {name, f"{name}_random"} <= names:
                yield mode, fill, name


def _faithfulness(
    role: str, method: str, mode: Mode, fill: str, name: str, group: Sequence[TaskResult]
) -> FaithfulnessRow:
    ranked, random = (per_example(group, measurement).values for measurement in (name, f"{name}_random"))
    advantage = bootstrap_mean((1.0 if mode == "insertion" else -1.0) * (np.asarray(ranked, np.float64) - random))
    return FaithfulnessRow(
        role=role,
        method=method,
        measure=mode,
        fill=fill,
        area=float(np.mean(ranked)),
        control=float(np.mean(random)),
        advantage=advantage.estimate,
        low=advantage.low,
        high=advantage.high,
        n=advantage.n,
        protocol=group[0].evidence.facts_as(FaithfulnessFacts).protocol,
        controls=controls_of(name, group),
    )
