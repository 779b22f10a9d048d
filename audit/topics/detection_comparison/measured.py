"""mAP of a detector in every condition, with its bootstrap samples, by which two detectors are paired."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from audit.core.threat_format import format_threat
from audit.metrics.average_precision import resampled_counts, resampled_precision
from audit.metrics.box_matching import BoxMatches
from audit.results.run_results import RunResults, TaskResult
from audit.topics.detection_accuracy.measured import class_count, measured_detector
from audit.topics.detection_corruptions.measured import CORRUPTED_STUDY, corrupted_detectors
from audit.topics.detection_patch.measured import patched_detectors
from audit.topics.detection_robustness.measured import ATTACK_STUDY, attacked_detector

PAIRED_RESAMPLES = 400
"""Bootstrap samples of each condition."""
_PRESENTATION = ("pictures",)
"""Settings of cells that change no number."""


@dataclass(frozen=True, eq=False)
class PrecisionCondition:
    """mAP in one condition.

    Attributes:
        quantity: Its name.
        images: Which images: first position in the audit order, the one after the last, and the step.
        protocol: How it was measured, as text that is equal where that is.
        matches: What is found; the mean over several is taken.
    """

    quantity: str
    images: tuple[int, int, int]
    protocol: str
    matches: tuple[BoxMatches, ...]

    def sampled(self, ids: Sequence[str]) -> tuple[float, NDArray[np.float64]]:
        """mAP, and that of each bootstrap sample, float64 (PAIRED_RESAMPLES,).

        How often an image is drawn depends on its place among the names of all, not on the order of the run: two runs
        on the same images draw them alike.

        Args:
            ids: Names of all images, in the audit order.
        """
        names = ids[slice(*self.images)]
        alphabetical = sorted(range(len(names)), key=lambda position: names[position])
        drawn = np.empty((PAIRED_RESAMPLES, len(names)))
        drawn[:, alphabetical] = resampled_counts(len(names), 0, PAIRED_RESAMPLES)
        once = np.ones((1, len(names)))
        estimate = float(np.mean([resampled_precision(some, once)[0] for some in self.matches]))
        return estimate, np.mean([resampled_precision(some, drawn) for some in self.matches], axis=0)


def conditions(results: RunResults, role: str) -> Iterator[PrecisionCondition]:
    """mAP on clean images, under attack at each eps, under corruptions and under each patch, where measured.

    Args:
        results: The run.
        role: Role of the detector.
    """
    classes = class_count(results, role)
    clean = measured_detector(results, role, classes)
    if clean is None or clean.precision is None:
        return
    yield PrecisionCondition("mAP clean", (0, clean.matches.images, 1), "", (clean.matches,))
    attacked = attacked_detector(results, role, classes) if results.entries(ATTACK_STUDY, role=role) else None
    if attacked is not None:
        for eps, (matches, _) in attacked.robust.items():
            within = [e for a in attacked.attacks if a.facts.eps <= eps for e in a.entries]
            name = f"mAP under attack, {format_threat(attacked.attacks[0].facts.norm, eps)}"
            yield PrecisionCondition(name, (0, matches.images, 1), _protocol(within), (matches,))
    corrupted = corrupted_detectors(results, role)
    if len({some.matches.images for some in corrupted}) == 1:
        entries = [entry for entry in results.entries(CORRUPTED_STUDY, role=role)]
        every = tuple(some.matches for some in corrupted)
        yield PrecisionCondition("mAP under corruptions", (0, every[0].images, 1), _protocol(entries), every)
    for patch in patched_detectors(results, role):
        examples = patch.entry.task.examples
        name = f"mAP under a patch, {patch.facts.kind}"
        images = (examples.start + 1, examples.stop, 2)
        yield PrecisionCondition(name, images, _protocol([patch.entry]), (patch.conditions["patch"].matches,))


def _protocol(entries: Sequence[TaskResult]) -> str:
    """Methods with their settings, each once."""
    cells = (entry.task.cell for entry in entries)
    described = {
        json.dumps(
            [
                cell.method,
                cell.version,
                {name: value for name, value in cell.settings.items() if name not in _PRESENTATION},
                dict(cell.threat or {}),
            ],
            sort_keys=True,
        )
        for cell in cells
    }
    return "\n".join(sorted(described))
