"""Where the methods that passed their checks say that the model looks, class by class: rows of the document."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from audit.core.evidence import Array, Finding
from audit.document.images import marked_strip
from audit.document.model import DocumentModel, Picture
from audit.document.section import SectionContext
from audit.results.queries import by_example, on_clean_images
from audit.results.run_results import RunResults

_IMAGES = 3
"""Images of a class that are shown."""
FIRST_CHECK = "deletion-against-random"
"""What a method must have passed; it may not have failed any other check either."""


class ConsensusRow(DocumentModel):
    """Where a model looks on images of a class.

    Attributes:
        role: Role of the model.
        label: Name of the class.
        methods: The methods whose maps are averaged: those that passed their checks on this model.
        images: Images shown.
        picture: The images, tinted where the mean of the maps is large; None where pictures are left out.
    """

    role: str
    label: str
    methods: list[str]
    images: int
    picture: Picture | None = None


def consensus_rows(results: RunResults, context: SectionContext) -> list[ConsensusRow]:
    """A row a model and class, where images were explained by a method that passed its checks.

    Args:
        results: The run.
        context: What the rows need besides the evidence.
    """
    if context.images is None or not len(context.images):
        return []
    return [row for role in context.roles for row in _rows(results, context, context.images, role)]


def sound_methods(findings: Sequence[Finding], role: str) -> list[str]:
    """The methods that passed deletion on a model and failed no other check of their maps.

    Args:
        findings: Of a run.
        role: Role of the model.
    """
    of_role = [f for f in findings if f.role == role and "identifier" in f.values]
    passed = [str(f.values["identifier"]) for f in of_role if f.check == FIRST_CHECK and f.verdict == "pass"]
    failed = {str(f.values["identifier"]) for f in of_role if f.verdict in ("warn", "fail")}
    return sorted(set(passed) - failed)


def _rows(results: RunResults, context: SectionContext, images: Array, role: str) -> list[ConsensusRow]:
    methods = sound_methods(context.findings, role)
    clean = on_clean_images(results.entries("explanation", role=role))
    maps = {m: by_example([e for e in clean if e.task.cell.method == m], "attributions") for m in methods}
    maps = {method: of_method for method, of_method in maps.items() if of_method}
    labels = by_example(results.entries("accuracy", role=role), "labels")
    shown = [at for at in range(len(images)) if at in labels and maps and all(at in held for held in maps.values())]
    rows = []
    for label in sorted({int(labels[at]) for at in shown}):
        positions = [at for at in shown if int(labels[at]) == label][:_IMAGES]
        means = np.stack([np.mean([_even(held[at]) for held in maps.values()], axis=0) for at in positions])
        means = means / np.maximum(means.max((1, 2), keepdims=True), 1e-300)
        rows.append(
            ConsensusRow(
                role=role,
                label=context.classes[label],
                methods=list(maps),
                images=len(positions),
                picture=marked_strip(images[positions], means) if context.pictures else None,
            )
        )
    return rows


def _even(attribution: Array) -> Array:
    """The positive part of a map, with sum 1, so that no method outweighs another."""
    positive: Array = np.clip(np.asarray(attribution, np.float64).sum(0), 0, None)
    total = float(positive.sum())
    return positive / total if total > 0 else positive
