"""Clean accuracy, by class, and calibration: rows of the document."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
from pydantic import Field

from audit.core.evidence import Array
from audit.core.statistics import share_of, wilson
from audit.document.model import Cost, DocumentModel, Proportion, cost_of, proportion
from audit.document.section import Rows, SectionContext
from audit.metrics.classification import Reliability, confusion, per_class, reliability
from audit.results.run_results import RunResults
from audit.topics.accuracy.facts import scores_are_independent

MATRIX_CLASSES = 40
"""Most classes of a confusion matrix: at 1,000 classes it was 3 MB of zeros, and 20 MB in the page."""
MAX_MISTAKES = 100


class ClassRow(DocumentModel):
    """One class. The 95% intervals are Wilson's.

    Attributes:
        name: Name of the class.
        precision: Share of the predictions of the class that are right, in [0, 1].
        recall: Share of the images of the class that are classified right, in [0, 1].
        f1: Harmonic mean of both.
        support: Number of images of the class.
        predicted: Number of images that are predicted to be of the class; None in documents of earlier versions.
        precision_interval: Bounds of `precision`; None for a class that was never predicted.
        recall_interval: Bounds of `recall`.
    """

    name: str
    precision: float
    recall: float
    f1: float
    support: int
    predicted: int | None = None
    precision_interval: tuple[float, float] | None = None
    recall_interval: tuple[float, float] | None = None


class Mistake(DocumentModel):
    """Images of one class that were classified as another.

    Attributes:
        label: Their class.
        prediction: The predicted class.
        count: Number of images.
    """

    label: str
    prediction: str
    count: int


class ReliabilityBin(DocumentModel):
    """Predictions whose confidence is in (low, high].

    Attributes:
        low: Lower end of the bin.
        high: Upper end of the bin.
        count: Number of predictions.
        confidence: Their mean confidence, in [0, 1].
        accuracy: Share of them that are right, in [0, 1].
    """

    low: float
    high: float
    count: int
    confidence: float
    accuracy: float


class AccuracyPart(DocumentModel):
    """Clean accuracy, by class, and calibration of one model.

    Attributes:
        role: Role of the model.
        accuracy: Share of images classified right.
        per_class: One row per class that has images.
        confusion: Counts by label and prediction, K x K; empty for more than `MATRIX_CLASSES` classes.
        mistakes: The commonest confusions, where `confusion` is empty.
        mistaken: Number of images classified wrong.
        calibration_error: Expected calibration error, in [0, 1]; None where each class has a score of its own, which is
            no confidence.
        reliability: The bins of the reliability diagram, in order of confidence; empty likewise.
        cost: What it cost.
    """

    role: str
    accuracy: Proportion
    per_class: list[ClassRow]
    confusion: list[list[int]]
    mistakes: list[Mistake] = Field(default_factory=list)
    mistaken: int = 0
    calibration_error: float | None
    reliability: list[ReliabilityBin]
    cost: Cost


def build(results: RunResults, context: SectionContext) -> Rows:
    """Clean accuracy of each model.

    Args:
        results: The run.
        context: What the rows need besides the evidence.
    """
    parts = (_accuracy(results, role, context.classes) for role in context.roles)
    return {"accuracy": [part for part in parts if part]}


def _accuracy(results: RunResults, role: str, classes: Sequence[str]) -> AccuracyPart | None:
    """Clean accuracy by class with its calibration; None where it was not measured, or labels are predictions."""
    logits = results.array("accuracy", "logits", role=role)
    labels = results.array("accuracy", "labels", role=role)
    if logits is None or labels is None or not len(labels) or not results.labelled:
        return None
    predictions = logits.argmax(axis=1)
    bins = None if scores_are_independent(results, role) else reliability(logits, labels)
    return AccuracyPart(
        role=role,
        accuracy=proportion(share_of(predictions == labels)),
        per_class=_class_rows(labels, predictions, classes),
        confusion=confusion(labels, predictions, len(classes)).tolist() if len(classes) <= MATRIX_CLASSES else [],
        mistakes=_mistakes(labels, predictions, classes) if len(classes) > MATRIX_CLASSES else [],
        mistaken=int((predictions != labels).sum()),
        calibration_error=bins.error if bins else None,
        reliability=reliability_rows(bins) if bins else [],
        cost=cost_of(results.entries("accuracy", role=role)),
    )


def reliability_rows(bins: Reliability) -> list[ReliabilityBin]:
    """The bins of a reliability diagram, as the document holds them.

    Args:
        bins: The bins.
    """
    return [
        ReliabilityBin(low=lo, high=hi, count=c, confidence=conf, accuracy=acc)
        for lo, hi, c, conf, acc in zip(
            bins.edges, bins.edges[1:], bins.count, bins.confidence, bins.accuracy, strict=False
        )
    ]


def _class_rows(labels: Array, predictions: Array, classes: Sequence[str]) -> list[ClassRow]:
    """A row a class with images; no recall is measured of one without: it is absent, not zero."""
    rows = per_class(labels, predictions, len(classes))
    predicted = np.bincount(predictions, minlength=len(classes)).tolist()
    right = np.bincount(labels[predictions == labels], minlength=len(classes)).tolist()
    return [
        ClassRow(
            name=name,
            precision=rows.precision[i],
            recall=rows.recall[i],
            f1=rows.f1[i],
            support=rows.support[i],
            predicted=predicted[i],
            precision_interval=_interval(right[i], predicted[i]),
            recall_interval=_interval(right[i], int(rows.support[i])),
        )
        for i, name in enumerate(classes)
        if rows.support[i]
    ]


def _interval(count: int, total: int) -> tuple[float, float] | None:
    """Wilson's interval of `count` in `total`; None where `total` is 0."""
    if not total:
        return None
    interval = wilson(count, total)
    return interval.low, interval.high


def _mistakes(labels: Array, predictions: Array, classes: Sequence[str]) -> list[Mistake]:
    """The commonest pairs of a label and another prediction, by count and then in the order of the classes."""
    wrong = predictions != labels
    pairs = Counter(zip(labels[wrong].tolist(), predictions[wrong].tolist(), strict=True))
    commonest = sorted(pairs.items(), key=lambda pair: (-pair[1], pair[0]))[:MAX_MISTAKES]
    return [Mistake(label=classes[a], prediction=classes[b], count=count) for (a, b), count in commonest]
