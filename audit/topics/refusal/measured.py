"""The evidence of refusal put together: confidences, sets and scores, by the images that the model was asked of."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from audit.core.evidence import Array
from audit.core.statistics import Interval
from audit.metrics.classification import calibration_error, probabilities
from audit.metrics.conformal import CONFORMAL_METHODS, conformal_sets, conformal_threshold
from audit.metrics.out_of_distribution import auroc, fpr_at_95, logit_scores
from audit.metrics.weak_slices import halves
from audit.results.queries import only_measured
from audit.results.run_results import RunResults, TaskResult
from audit.topics.accuracy.facts import scores_are_independent
from audit.topics.refusal.facts import (
    ATTACKED,
    CLEAN,
    CORRUPTED,
    FEATURE_SCORES,
    FOREIGN,
    SHIFT_SEVERITIES,
    RefusalSettings,
)

SCORES = ("MSP", "max-logit", "energy", *FEATURE_SCORES)
"""The scores by which foreign images are told."""
_RESAMPLES = 400


@dataclass(frozen=True)
class Predictions:
    """What a model says of images whose classes are known.

    Attributes:
        probabilities: Float64 (N, K).
        labels: Int64 (N,).
        positions: In the audit order, int64 (N,).
    """

    probabilities: NDArray[np.float64]
    labels: Array
    positions: Array

    @property
    def confidence(self) -> NDArray[np.float64]:
        """The highest probability, (N,)."""
        return np.asarray(self.probabilities.max(1), np.float64)

    @property
    def correct(self) -> NDArray[np.bool_]:
        """Whether the likeliest class is right, (N,)."""
        return np.asarray(self.probabilities.argmax(1) == self.labels)

    def at(self, selected: NDArray[np.bool_]) -> Predictions:
        """Some of them.

        Args:
            selected: Which, bool (N,).
        """
        return Predictions(self.probabilities[selected], self.labels[selected], self.positions[selected])


def clean_predictions(results: RunResults, role: str, seed: int) -> tuple[Predictions, Predictions] | None:
    """What a model says of the clean images: of the half that thresholds are chosen on, and of the other.

    Args:
        results: The run.
        role: Role of the model.
        seed: Of the halves.

    Returns:
        Both halves; None where the cells of refusal were not measured, or scores are no probabilities.
    """
    logits = results.array("accuracy", "logits", role=role)
    labels = results.array("accuracy", "labels", role=role)
    if logits is None or labels is None or not results.entries("refusal", role=role) or not results.labelled:
        return None
    if scores_are_independent(results, role) or len(labels) < 2:
        return None
    whole = Predictions(probabilities(logits), labels, np.arange(len(labels)))
    choosing = halves(len(labels), seed)
    return whole.at(choosing), whole.at(~choosing)


def shifted_predictions(results: RunResults, role: str) -> Iterator[tuple[str, int, Array, Predictions]]:
    """What a model says of corrupted images.

    Args:
        results: The run.
        role: Role of the model.

    Yields:
        The corruption, its severity, the logits and the predictions.
    """
    for entry in entries_of(results, role, CORRUPTED):
        arrays, name = entry.evidence.arrays, RefusalSettings.of(entry.task.cell).corruption
        for severity, logits in zip(SHIFT_SEVERITIES, arrays["logits"], strict=True):
            positions = np.arange(len(logits)) + entry.task.examples.start
            yield name, severity, logits, Predictions(probabilities(logits), arrays["labels"], positions)


def entries_of(results: RunResults, role: str, method: str) -> tuple[TaskResult, ...]:
    """The measured cells of one method.

    Args:
        results: The run.
        role: Role of the model.
        method: Such as "corrupted".
    """
    return only_measured(results.entries("refusal", role=role, method=method))


@dataclass(frozen=True)
class ConformalOutcome:
    """How the sets of one method fare on some images.

    Attributes:
        method: "THR", "APS" or "RAPS".
        images: "clean", or the corruption.
        severity: Of the corruption; 0 for none.
        covered: Whether the set of each image holds its class, bool (N,).
        sizes: How many classes are in each set, int64 (N,).
        labels: The class of each image, int64 (N,).
        calibrated: Images that the sets were calibrated on.
    """

    method: str
    images: str
    severity: int
    covered: NDArray[np.bool_]
    sizes: NDArray[np.int64]
    labels: Array
    calibrated: int


def conformal_outcomes(results: RunResults, role: str, seed: int, error: float) -> Iterator[ConformalOutcome]:
    """The sets of each method, calibrated on one half of the clean images, on the other half and on its corruptions.

    Args:
        results: The run.
        role: Role of the model.
        seed: Of the halves.
        error: The share of sets that may miss the right class.
    """
    parts = clean_predictions(results, role, seed)
    if parts is None:
        return
    calibration, evaluation = parts
    asked = [(CLEAN, 0, evaluation)]
    for name, severity, _, shifted in shifted_predictions(results, role):
        asked.append((name, severity, shifted.at(np.isin(shifted.positions, evaluation.positions))))
    for method, scores in CONFORMAL_METHODS.items():
        usual = scores(calibration.probabilities, _draws(calibration.positions, seed))
        threshold = conformal_threshold(usual, calibration.labels, error)
        for images, severity, predictions in asked:
            sets = conformal_sets(scores(predictions.probabilities, _draws(predictions.positions, seed)), threshold)
            covered = sets[np.arange(len(sets)), predictions.labels]
            yield ConformalOutcome(
                method, images, severity, covered, sets.sum(1), predictions.labels, len(calibration.labels)
            )


def _draws(positions: Array, seed: int) -> NDArray[np.float64]:
    """A uniform draw an image, the same for it and its corruptions."""
    return np.random.default_rng([seed, 1]).random(int(positions.max(initial=-1)) + 1)[positions]


def shifted_calibration(results: RunResults, role: str) -> Iterator[tuple[str, int, Interval]]:
    """The expected calibration error under each corruption.

    Args:
        results: The run.
        role: Role of the model.

    Yields:
        The corruption, its severity, and the error with its interval.
    """
    if scores_are_independent(results, role):
        return
    for name, severity, logits, predictions in shifted_predictions(results, role):
        yield name, severity, calibration_error(logits, predictions.labels, resamples=_RESAMPLES)


@dataclass(frozen=True)
class OutsideOutcome:
    """How well one score tells some images from clean ones.

    Attributes:
        score: Name of the score.
        images: What they are: a kind of foreign images, "attacked", or a corruption at its highest severity.
        foreign: Whether the model is not made for them at all.
        auroc: The probability that one of them scores higher than a clean one.
        fpr95: The share of clean images refused with 95% of them.
        count: How many they are.
    """

    score: str
    images: str
    foreign: bool
    auroc: Interval
    fpr95: Interval
    count: int


def outside_outcomes(results: RunResults, role: str, *, part: NDArray[np.bool_] | None = None) -> list[OutsideOutcome]:
    """How well each score tells each kind of images.

    Args:
        results: The run.
        role: Role of the model.
        part: Which of the clean images to use, bool (N,), and of the others the same share; None for all.
    """
    clean = entries_of(results, role, CLEAN)
    if not clean:
        return []
    ordinary = _scores(clean[0].evidence.arrays)
    outcomes: list[OutsideOutcome] = []
    for images, foreign, arrays in _strange(results, role):
        scores = _scores(arrays)
        for name in SCORES:
            usual, strange = ordinary[name], scores[name]
            if part is not None:
                usual, strange = usual[part[: len(usual)]], strange[part[np.arange(len(strange)) % len(part)]]
            if len(usual) and len(strange):
                told = auroc(usual, strange), fpr_at_95(usual, strange)
                outcomes.append(OutsideOutcome(name, images, foreign, *told, len(strange)))
    return outcomes


def _strange(results: RunResults, role: str) -> Iterator[tuple[str, bool, Mapping[str, Array]]]:
    for entry in entries_of(results, role, FOREIGN):
        yield RefusalSettings.of(entry.task.cell).kind, True, entry.evidence.arrays
    for entry in entries_of(results, role, CORRUPTED):
        arrays = {name: entry.evidence.arrays[name][-1] for name in ("logits", *FEATURE_SCORES)}
        yield RefusalSettings.of(entry.task.cell).corruption, False, arrays
    for entry in entries_of(results, role, ATTACKED):
        yield ATTACKED, False, entry.evidence.arrays


def _scores(arrays: Mapping[str, Array]) -> dict[str, Array]:
    return {**logit_scores(arrays["logits"]), **{name: arrays[name] for name in FEATURE_SCORES}}
