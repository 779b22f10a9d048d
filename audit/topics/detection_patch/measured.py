"""What is read of a patch on a detector by its check and its section."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from audit.core.boxes import PackedDetections, PackedObjects
from audit.core.statistics import Interval
from audit.metrics.average_precision import (
    average_precision,
    mean_precision,
    paired_difference_of_map,
    ratio_over_images,
)
from audit.metrics.box_matching import BoxMatches, match_boxes
from audit.metrics.detection_errors import OUTCOMES, DetectionErrors, detection_errors
from audit.metrics.operating_score import best_f1_score
from audit.results.boxes import boxes_in
from audit.results.queries import only_measured
from audit.results.run_results import RunResults, TaskResult
from audit.topics.detection_accuracy.measured import classes_in
from audit.topics.detection_patch.facts import PATCH_CONDITIONS, DetectionPatchFacts

PATCH_STUDY = "detection-patch"
_RESAMPLES = 400
"""Bootstrap samples: there are four conditions for each patch."""
_ON_NOTHING = tuple(OUTCOMES.index(kind) for kind in ("false", "both", "badly_placed"))


@dataclass(frozen=True, eq=False)
class PatchCondition:
    """The scored images with one thing where the patch lies.

    Attributes:
        found: The detections.
        errors: What became of those from the operating score on.
        matches: All of them against the objects.
        precision: mAP, over all objects.
        recall: Share of the objects beside the patch that are found from the operating score on; of all objects where
            it lies on each. None where it touches every object.
        faked: Detections from that score on, an image, that overlap no object by .5.
    """

    found: PackedDetections
    errors: DetectionErrors
    matches: BoxMatches
    precision: Interval
    recall: Interval | None
    faked: Interval


@dataclass(frozen=True, eq=False)
class PatchedDetector:
    """One patch on one detector.

    Attributes:
        facts: What the patch was.
        entry: Its cell.
        objects: The objects of the scored images.
        score: The operating score on them clean, from which detections are counted.
        conditions: By name, see `PATCH_CONDITIONS`.
        control: "grey" or "noise", the control under which less mAP is left.
        excess: mAP under that control less mAP under the patch, on the same images.
    """

    facts: DetectionPatchFacts
    entry: TaskResult
    objects: PackedObjects
    score: float
    conditions: dict[str, PatchCondition]
    control: str
    excess: Interval


def patched_detectors(results: RunResults, role: str) -> tuple[PatchedDetector, ...]:
    """Each patch on a detector; none where that was not measured, or no scored image has an object.

    Args:
        results: The run.
        role: Role of the model.
    """
    entries = only_measured(results.entries(PATCH_STUDY, role=role))
    measured = (_patched(_PatchCell(entry.task.cell.key, entry)) for entry in entries)
    return tuple(some for some in measured if some is not None)


@dataclass(frozen=True)
class _PatchCell:
    """What is asked about: the same cell gives the same answer."""

    key: str
    entry: TaskResult = field(compare=False)


@lru_cache(maxsize=16)
def _patched(cell: _PatchCell) -> PatchedDetector | None:
    """Kept, as the check and the section of a report ask for the same."""
    boxes = {name: boxes_in([cell.entry], found=name) for name in PATCH_CONDITIONS}
    known = {name: some for name, some in boxes.items() if some is not None}
    objects = known["clean"].objects
    if not len(objects.labels[~objects.crowd]):
        return None
    facts = cell.entry.evidence.facts_as(DetectionPatchFacts)
    classes = max(1, *(classes_in(objects, some.found) for some in known.values()))
    matches = {name: match_boxes(objects, some.found, classes, sizes=("all",)) for name, some in known.items()}
    score = best_f1_score(matches["clean"])
    beside = (cell.entry.evidence.arrays["covered"] == 0) | (facts.kind == "hide")
    conditions = {
        name: _condition(objects, some.found, matches[name], score, beside & ~objects.crowd)
        for name, some in known.items()
    }
    control = min(("grey", "noise"), key=lambda name: mean_precision(matches[name]))
    excess = paired_difference_of_map(matches[control], matches["patch"], resamples=_RESAMPLES)
    assert excess is not None
    return PatchedDetector(facts, cell.entry, objects, score, conditions, control, excess)


def _condition(
    objects: PackedObjects, found: PackedDetections, matches: BoxMatches, score: float, counted: NDArray[np.bool_]
) -> PatchCondition:
    errors = detection_errors(objects, found, score)
    precision = average_precision(matches, resamples=_RESAMPLES)
    assert precision is not None
    faked = ratio_over_images(
        _by_image(found.counts, np.isin(errors.outcomes, _ON_NOTHING)),
        np.ones(matches.images),
        most=np.inf,
        resamples=_RESAMPLES,
    )
    assert faked is not None
    recall = ratio_over_images(
        _by_image(objects.counts, errors.found & counted), _by_image(objects.counts, counted), resamples=_RESAMPLES
    )
    return PatchCondition(found, errors, matches, precision.mean, recall, faked)


def _by_image(counts: NDArray[np.int64], flags: NDArray[np.bool_]) -> NDArray[np.float64]:
    """How many flags of each image are set, (N,)."""
    image = np.repeat(np.arange(len(counts)), counts)
    return np.bincount(image, weights=flags, minlength=len(counts)).astype(np.float64)
