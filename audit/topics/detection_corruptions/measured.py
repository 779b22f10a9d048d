"""The detections of every corruption, and how much of the clean mAP is left."""

from __future__ import annotations

from collections.abc import Iterator

from audit.core.boxes import PackedDetections, PackedObjects
from audit.core.statistics import Interval
from audit.metrics.box_matching import BoxMatches, match_boxes
from audit.metrics.relative_precision import relative_precision
from audit.results.boxes import boxes_in, boxes_of
from audit.results.queries import group_by_condition
from audit.results.run_results import RunResults, TaskResult
from audit.topics.detection_accuracy.measured import STUDY as CLEAN

STUDY = "detection-corruption"


def corrupted_matches(
    results: RunResults, role: str, classes: int, sizes: tuple[str, ...] = ("all",)
) -> Iterator[tuple[str, int, tuple[TaskResult, ...], BoxMatches]]:
    """Each corruption at each severity: its name, the severity, its cells, and the matches.

    Args:
        results: The run.
        role: Role of the model.
        classes: The number of classes.
        sizes: Ranges of sizes to match.
    """
    for at, entries in group_by_condition(results.entries(STUDY, role=role), "severity"):
        packed = boxes_in(entries)
        if packed is not None:
            yield at.method, int(at.setting or 0), entries, match_boxes(*packed, classes, sizes)


def precision_left(results: RunResults, role: str, classes: int) -> Interval | None:
    """The mean share of the clean mAP that is left, on the images that were corrupted.

    Args:
        results: The run.
        role: Role of the model.
        classes: The number of classes.
    """
    changed = [matches for _, _, _, matches in corrupted_matches(results, role, classes)]
    clean = boxes_of(results, CLEAN, role)
    if clean is None or not changed:
        return None
    images = min(matches.images for matches in changed)
    if any(matches.images != images for matches in changed) or images > len(clean[0].counts):
        return None
    before: tuple[PackedObjects, PackedDetections] = (clean[0].first(images), clean[1].first(images))
    return relative_precision(match_boxes(*before, classes, ("all",)), changed)
