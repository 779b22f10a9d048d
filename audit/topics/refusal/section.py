"""When a model should refuse: rows of the document."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import numpy as np

from audit.core.statistics import share_of
from audit.document.model import DocumentModel, Proportion, proportion
from audit.document.section import Rows, SectionContext
from audit.metrics.conformal import coverage_band
from audit.metrics.selective import risk_at_coverage, risk_coverage
from audit.results.run_results import RunResults
from audit.topics.refusal.config import RefusalConfig
from audit.topics.refusal.measured import (
    clean_predictions,
    conformal_outcomes,
    outside_outcomes,
    shifted_calibration,
)
from audit.topics.refusal.thresholds import accepted_at

COVERAGES = (0.5, 0.7, 0.8, 0.9, 0.95, 1.0)
"""The coverages at which the risk is told."""
_CURVE_POINTS = 60


class RiskPoint(DocumentModel):
    """The risk at one coverage.

    Attributes:
        coverage: Share of the predictions that is kept, the surest.
        risk: Share of errors among them.
    """

    coverage: float
    risk: Proportion


class RiskRow(DocumentModel):
    """Risk against coverage of one model.

    Attributes:
        role: Role of the model.
        aurc: Area under the risk-coverage curve.
        e_aurc: What it exceeds the least area by that so many errors allow.
        points: The risk at some coverages.
        curve: Coverage and risk along the curve.
        target: The share of errors to keep.
        threshold: The confidence from which predictions are accepted, chosen on one half; None where none reaches it.
        bound: What the errors are at most, with a probability of 95%, by that half.
        accepted: Share of the other half that is accepted.
        risk: Share of errors among those.
    """

    role: str
    aurc: float
    e_aurc: float
    points: list[RiskPoint]
    curve: list[tuple[float, float]]
    target: float
    threshold: float | None
    bound: float | None
    accepted: Proportion | None
    risk: Proportion | None


class ConformalRow(DocumentModel):
    """The sets of one conformal method on some images.

    Attributes:
        role: Role of the model.
        method: "THR", "APS" or "RAPS".
        images: "clean", or the corruption.
        severity: Of the corruption; 0 for none.
        asked: The coverage asked for.
        coverage: Share of the sets that hold the right class.
        band: Between which shares it lies with 95%, were the images like those of the calibration.
        size: Mean number of classes in a set.
        empty: Share of sets without a class.
        sizes: Mean size by class, in the order of the classes, None for one without images; empty but for clean images.
    """

    role: str
    method: str
    images: str
    severity: int
    asked: float
    coverage: Proportion
    band: tuple[float, float]
    size: float
    empty: float
    sizes: list[float | None]


class CalibrationRow(DocumentModel):
    """Calibration under one corruption.

    Attributes:
        role: Role of the model.
        name: The corruption.
        severity: 1 to 5.
        error: Expected calibration error.
    """

    role: str
    name: str
    severity: int
    error: Proportion


class OutsideRow(DocumentModel):
    """How well a score tells some images from clean ones.

    Attributes:
        role: Role of the model.
        score: Name of the score.
        images: A kind of foreign images, "attacked", or a corruption at its highest severity.
        kind: Whether the images are foreign, corrupted or attacked.
        auroc: The probability that one of them scores higher than a clean one.
        fpr95: Share of clean images that are refused with 95% of them.
        count: How many they are.
    """

    role: str
    score: str
    images: str
    kind: Literal["foreign", "corrupted", "attacked"]
    auroc: Proportion
    fpr95: Proportion
    count: int


def build(results: RunResults, context: SectionContext) -> Rows:
    """Risk, sets, calibration and foreign images of each model.

    Args:
        results: The run.
        context: What the rows need besides the evidence.
    """
    roles = context.roles
    return {
        "risk_coverage": [row for role in roles for row in _risk(results, role, context)],
        "conformal_sets": [row for role in roles for row in _conformal(results, role, context)],
        "calibration_shifted": [
            CalibrationRow(role=role, name=name, severity=severity, error=proportion(error))
            for role in roles
            for name, severity, error in shifted_calibration(results, role)
        ],
        "out_of_distribution": [row for role in roles for row in _outside(results, role)],
    }


def _risk(results: RunResults, role: str, context: SectionContext) -> Iterator[RiskRow]:
    parts = clean_predictions(results, role, context.config.seed)
    if parts is None:
        return
    choosing, judging = parts
    sure, right = judging.confidence, judging.correct
    curve = risk_coverage(sure, right)
    shown = np.unique(np.linspace(0, len(sure) - 1, _CURVE_POINTS).round().astype(int))
    accepted = accepted_at(choosing, judging, context.config.table(RefusalConfig).risk)
    yield RiskRow(
        role=role,
        aurc=curve.aurc,
        e_aurc=curve.e_aurc,
        points=[RiskPoint(coverage=c, risk=proportion(risk_at_coverage(sure, right, c))) for c in COVERAGES],
        curve=[(float(curve.coverage[i]), float(curve.risk[i])) for i in shown],
        target=context.config.table(RefusalConfig).risk,
        threshold=accepted.threshold.confidence if accepted else None,
        bound=accepted.threshold.bound if accepted else None,
        accepted=proportion(accepted.accepted) if accepted else None,
        risk=proportion(accepted.risk) if accepted and accepted.risk else None,
    )


def _conformal(results: RunResults, role: str, context: SectionContext) -> Iterator[ConformalRow]:
    error = context.config.table(RefusalConfig).error
    for outcome in conformal_outcomes(results, role, context.config.seed, error):
        if not len(outcome.covered):
            continue
        of_class = [outcome.sizes[outcome.labels == label] for label in range(len(context.classes))]
        yield ConformalRow(
            role=role,
            method=outcome.method,
            images=outcome.images,
            severity=outcome.severity,
            asked=1 - error,
            coverage=proportion(share_of(outcome.covered)),
            band=coverage_band(outcome.calibrated, len(outcome.covered), error),
            size=float(outcome.sizes.mean()),
            empty=float((outcome.sizes == 0).mean()),
            sizes=[float(s.mean()) if len(s) else None for s in of_class] if outcome.severity == 0 else [],
        )


def _outside(results: RunResults, role: str) -> Iterator[OutsideRow]:
    for outcome in outside_outcomes(results, role):
        kind: Literal["foreign", "corrupted", "attacked"] = (
            "foreign" if outcome.foreign else "attacked" if outcome.images == "attacked" else "corrupted"
        )
        yield OutsideRow(
            role=role,
            score=outcome.score,
            images=outcome.images,
            kind=kind,
            auroc=proportion(outcome.auroc),
            fpr95=proportion(outcome.fpr95),
            count=outcome.count,
        )
