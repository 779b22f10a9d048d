"""What is read of the attacks on a detector by its checks and its section."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache

import numpy as np
from numpy.typing import NDArray

from audit.core.boxes import PackedDetections, PackedObjects
from audit.core.statistics import Interval
from audit.metrics.average_precision import (
    average_precision,
    image_quality,
    mean_precision,
    paired_difference_of_map,
)
from audit.metrics.box_matching import BoxMatches, match_boxes
from audit.results.boxes import boxes_in
from audit.results.queries import cell_keys, only_measured
from audit.results.run_results import RunResults, TaskResult
from audit.topics.detection_accuracy.measured import STUDY as CLEAN
from audit.topics.detection_robustness.facts import DetectionAttackFacts

ATTACK_STUDY = "detection-attack"
ATTACK_RESAMPLES = 400
"""Bootstrap samples: there are two intervals for each attack and eps."""


@dataclass(frozen=True, eq=False)
class MeasuredAttack:
    """One attack at one eps, on the first images of the audit order.

    Attributes:
        facts: What it was.
        entries: Its cells.
        found: What was found in the attacked images.
        matches: The same against the objects.
    """

    facts: DetectionAttackFacts
    entries: tuple[TaskResult, ...]
    found: PackedDetections
    matches: BoxMatches

    @cached_property
    def quality(self) -> NDArray[np.float64]:
        """How well each image is still done, see `image_quality`."""
        return image_quality(self.matches, self.found)


@dataclass(frozen=True, eq=False)
class AttackedDetector:
    """A detector on attacked images.

    Attributes:
        objects: The objects of the N attacked images.
        found: What was found there before.
        clean: The same against the objects.
        attacks: By eps, then by aim.
        headline: The eps of the verdict.
    """

    objects: PackedObjects
    found: PackedDetections
    clean: BoxMatches
    attacks: tuple[MeasuredAttack, ...]
    headline: float

    @cached_property
    def clean_map(self) -> Interval:
        """mAP on these images before the attack."""
        return _mean(self.clean)

    @cached_property
    def robust(self) -> dict[float, tuple[BoxMatches, Interval]]:
        """By eps, the lowest mAP of the attacks within it and of their worst image by image.

        Each bounds the robust mAP from above. The worst of each image by itself need not be the worst of all together,
        as mAP ranks the detections of all images.
        """
        found: dict[float, tuple[BoxMatches, Interval]] = {}
        for eps in sorted({attack.facts.eps for attack in self.attacks}):
            picked = match_boxes(self.objects, self.worst(eps), self.clean.classes, sizes=("all",))
            every = [picked, *(attack.matches for attack in self.attacks if attack.facts.eps <= eps)]
            lowest = min(every, key=mean_precision)
            found[eps] = lowest, _mean(lowest)
        return found

    def worst(self, eps: float) -> PackedDetections:
        """Of each image what was found under the attack within eps that left least of it (see `image_quality`).

        Any choice among verified images is an attack, so mAP of this one bounds the robust mAP from above.

        Args:
            eps: The ball; attacks in smaller ones count, too, and noise does.
        """
        within = [attack for attack in self.attacks if attack.facts.eps <= eps]
        quality = np.stack([attack.quality for attack in within])
        return pick_images([attack.found for attack in within], quality.argmin(0))


@dataclass(frozen=True)
class _Asked:
    """What is asked about: the same cells give the same answer."""

    cells: tuple[str, ...]
    classes: int
    results: RunResults = field(compare=False)
    role: str = field(compare=False)


def attacked_detector(results: RunResults, role: str, classes: int) -> AttackedDetector | None:
    """How a detector does under attack; None where that was not measured, or no attacked image has an object.

    Args:
        results: The run.
        role: Role of the model.
        classes: The number of classes.
    """
    entries = only_measured(results.entries(ATTACK_STUDY, role=role))
    cells = cell_keys([*only_measured(results.entries(CLEAN, role=role)), *entries])
    return _attacked(_Asked(cells, classes, results, role)) if entries else None


@lru_cache(maxsize=4)
def _attacked(asked: _Asked) -> AttackedDetector | None:
    """Kept, as the checks and the section of a report ask for the same."""
    results, role, classes = asked.results, asked.role, asked.classes
    entries = only_measured(results.entries(ATTACK_STUDY, role=role))
    clean = boxes_in(results.entries(CLEAN, role=role))
    if clean is None:
        return None
    groups: dict[tuple[float, bool, str], list[TaskResult]] = {}
    for entry in entries:
        facts = entry.evidence.facts_as(DetectionAttackFacts)
        groups.setdefault((facts.eps, facts.control, facts.aim), []).append(entry)
    images = min(sum(len(e.task.examples) for e in group) for group in groups.values())
    objects = clean.objects.first(images)
    if not len(objects.labels[~objects.crowd]):
        return None
    attacks = [_attack(group, objects, classes, images) for _, group in sorted(groups.items())]
    largest = max(attack.facts.eps for attack in attacks)
    headline = max((attack.facts.eps for attack in attacks if attack.facts.control), default=largest)
    found = clean.found.first(images)
    matches = match_boxes(objects, found, classes, sizes=("all",))
    return AttackedDetector(objects, found, matches, tuple(attacks), headline)


def map_under(attack: MeasuredAttack) -> Interval:
    """mAP under one attack.

    Args:
        attack: The attack.
    """
    return _mean(attack.matches)


def fall_under(detector: AttackedDetector, matches: BoxMatches) -> Interval:
    """mAP before less mAP after, on the same images.

    Args:
        detector: The detector.
        matches: After.
    """
    fall = paired_difference_of_map(detector.clean, matches, resamples=ATTACK_RESAMPLES)
    assert fall is not None
    return fall


def pick_images(found: Sequence[PackedDetections], chosen: NDArray[np.int64]) -> PackedDetections:
    """Of each image the detections of one of several attacks.

    Args:
        found: What was found in the same N images under each attack.
        chosen: Which attack each image is taken from, int64 (N,).
    """
    rows = [np.arange(len(some.labels)) for some in found]
    starts = [np.concatenate([[0], np.cumsum(some.counts)]) for some in found]
    parts = [(k, rows[k][starts[k][i] : starts[k][i + 1]]) for i, k in enumerate(chosen.tolist())]
    fields = {
        name: np.concatenate([getattr(found[0], name)[:0], *(getattr(found[k], name)[part] for k, part in parts)])
        for name in ("boxes", "labels", "scores")
    }
    return PackedDetections(counts=np.array([len(part) for _, part in parts], np.int64), **fields)


def _attack(group: Sequence[TaskResult], objects: PackedObjects, classes: int, images: int) -> MeasuredAttack:
    boxes = boxes_in(group)
    assert boxes is not None
    found, facts = boxes.found.first(images), group[0].evidence.facts_as(DetectionAttackFacts)
    return MeasuredAttack(facts, tuple(group), found, match_boxes(objects, found, classes, sizes=("all",)))


def _mean(matches: BoxMatches) -> Interval:
    precision = average_precision(matches, resamples=ATTACK_RESAMPLES)
    assert precision is not None
    return precision.mean
