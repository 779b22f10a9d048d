"""The training images behind answers: rows of the document."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import numpy as np

from audit.core.evidence import Array
from audit.document.images import strip
from audit.document.model import DocumentModel, Picture
from audit.document.section import Rows, SectionContext
from audit.results.queries import only_measured
from audit.results.run_results import RunResults, TaskResult
from audit.topics.influence.facts import InfluenceFacts

_SHOWN = 4
"""Answers of a model that are shown: wrong ones first, then those that an attack broke."""
Behind = Literal["neighbours", "attacked_neighbours", "supporting", "opposing"]


class InfluenceRow(DocumentModel):
    """The training images behind one answer, or before one adversarial image.

    Attributes:
        role: Role of the model.
        position: The image's position in the audit order.
        label: Its label.
        prediction: The answer.
        kind: How the training images belong to it: nearest in feature space to the image or to its adversarial form,
            or supporting or opposing the answer.
        training: Their labels, in order.
        names: Their names.
        shared: How many of them are named for the model under test too; None for that model itself.
        picture: The image and after it the training images; None where pictures are left out or the row is not shown.
    """

    role: str
    position: int
    label: str
    prediction: str
    kind: Behind
    training: list[str]
    names: list[str]
    shared: int | None = None
    picture: Picture | None = None


class SuspectRow(DocumentModel):
    """A training image with a large influence on itself, which only its own label explains.

    Attributes:
        role: Role of the model.
        name: Its name.
        label: Its label.
        prediction: What the model takes it for.
        picture: The image; None where pictures are left out.
    """

    role: str
    name: str
    label: str
    prediction: str
    picture: Picture | None = None


def build(results: RunResults, context: SectionContext) -> Rows:
    """The training images behind each answer of each model, and those that only their own label explains.

    Args:
        results: The run.
        context: What the rows need besides the evidence.
    """
    entries = {role: only_measured(results.entries("influence", role=role)) for role in context.roles}
    measured = {role: cells[0] for role, cells in entries.items() if cells}
    first = next(iter(measured.values()), None)
    labels = results.array("accuracy", "labels", role=next(iter(measured), ""))
    rows = [
        row
        for role, entry in measured.items()
        for row in _rows(role, entry, None if entry is first else first, labels, context)
    ]
    suspects = [row for role, entry in measured.items() for row in _suspects(role, entry, context)]
    return {"influence": rows, "suspects": suspects}


def _rows(
    role: str, entry: TaskResult, other: TaskResult | None, labels: Array | None, context: SectionContext
) -> list[InfluenceRow]:
    arrays, facts = entry.evidence.arrays, entry.evidence.facts_as(InfluenceFacts)
    start, predictions = entry.task.examples.start, arrays["predictions"]
    true = predictions if labels is None else labels[start : start + len(predictions)]
    attacked = arrays["attacked_predictions"]
    order = np.lexsort((np.arange(len(predictions)), attacked < 0, predictions == true))
    rows: list[InfluenceRow] = []
    for rank, row in enumerate(order.tolist()):
        for kind in _kinds(arrays, row):
            positions = arrays[kind][row]
            rows.append(
                InfluenceRow(
                    role=role,
                    position=start + row,
                    label=context.classes[int(true[row])],
                    prediction=context.classes[int((attacked if kind == "attacked_neighbours" else predictions)[row])],
                    kind=kind,
                    training=[context.classes[int(label)] for label in arrays["training_labels"][positions]],
                    names=[facts.names[str(position)] for position in positions.tolist()],
                    shared=_shared(other, kind, row, positions),
                    picture=_picture(arrays, row, positions) if context.pictures and rank < _SHOWN else None,
                )
            )
    return rows


def _kinds(arrays: Mapping[str, Array], row: int) -> list[Behind]:
    kinds: list[Behind] = ["neighbours", "supporting", "opposing", "attacked_neighbours"]
    return [kind for kind in kinds if kind in arrays and (arrays[kind][row] >= 0).all()]


def _shared(other: TaskResult | None, kind: Behind, row: int, positions: Array) -> int | None:
    if other is None or kind not in other.evidence.arrays or row >= len(other.evidence.arrays[kind]):
        return None
    return len(set(other.evidence.arrays[kind][row].tolist()) & set(positions.tolist()))


def _picture(arrays: Mapping[str, Array], row: int, positions: Array) -> Picture:
    stored = arrays["pictures"][np.searchsorted(arrays["named"], positions)]
    return strip(np.concatenate([arrays["tests"][row : row + 1], stored]))


def _suspects(role: str, entry: TaskResult, context: SectionContext) -> list[SuspectRow]:
    arrays, facts = entry.evidence.arrays, entry.evidence.facts_as(InfluenceFacts)
    if "suspects" not in arrays:
        return []
    rows = []
    for position, prediction in zip(arrays["suspects"].tolist(), arrays["suspect_predictions"].tolist(), strict=True):
        label = int(arrays["training_labels"][position])
        if label == prediction:
            continue
        stored = arrays["pictures"][np.searchsorted(arrays["named"], [position])]
        rows.append(
            SuspectRow(
                role=role,
                name=facts.names[str(position)],
                label=context.classes[label],
                prediction=context.classes[prediction],
                picture=strip(stored) if context.pictures else None,
            )
        )
    return rows
