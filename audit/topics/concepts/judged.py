"""Each concept with its importance, its error and what its controls say, from the evidence alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtr

from audit.core.evidence import Array
from audit.core.statistics import Interval, bootstrap_mean, holm
from audit.metrics.concept_activation import draw_p
from audit.results.run_results import TaskResult
from audit.topics.concepts.facts import ConceptsFacts, UserConceptFacts

CONCEPT_LEVEL = 0.05
"""Level of every test, over all concepts of a model together."""
_RESAMPLES = 999


@dataclass(frozen=True)
class JudgedConcept:
    """A concept of a class.

    Attributes:
        label: Name of the class.
        row: Position of the class in the arrays.
        number: Position of the concept in the arrays.
        examples: Positions of the class's images in the cell, int64 (n,).
        importance: Its total Sobol index, the mean over images.
        deletion: What taking it off lowers the class's logit by, the mean over images.
        deletion_control: The same of random directions.
        insertion: What it alone raises the logit by, the mean over images.
        insertion_control: The same of random directions.
        deletion_p: Of a paired t-test that it lowers the logit by more than they do, corrected.
        tcav: Its TCAV score, in [0, 1].
        tcav_random: That of random sets.
        tcav_p: That its crops lie along the class's gradient as random ones do, two-sided, corrected.
        inside: The share of its map inside the masks, of each image that has one, (m,); None where no data has.
        area: The area of the same masks, (m,).
    """

    label: str
    row: int
    number: int
    examples: NDArray[np.int64]
    importance: Interval
    deletion: float
    deletion_control: float
    insertion: float
    insertion_control: float
    deletion_p: float
    tcav: float
    tcav_random: float
    tcav_p: float
    inside: Array | None
    area: Array | None

    @property
    def faithful(self) -> bool:
        """Whether the model depends on it more than on random directions."""
        return self.deletion_p < CONCEPT_LEVEL

    @property
    def tested(self) -> bool:
        """Whether the class is sensitive to it otherwise than to random concepts."""
        return self.tcav_p < CONCEPT_LEVEL

    @property
    def background(self) -> Interval | None:
        """By how much more of its map lies inside the masks than chance has it; None without masks."""
        if self.inside is None or self.area is None or not len(self.inside):
            return None
        return bootstrap_mean(self.inside - self.area, resamples=_RESAMPLES)


def judged_concepts(entries: Sequence[TaskResult]) -> list[list[JudgedConcept]]:
    """The concepts of each class, the most important first.

    Args:
        entries: The measured cell of concepts of one model; none gives no classes.
    """
    if not entries:
        return []
    evidence = entries[0].evidence
    facts, arrays = evidence.facts_as(ConceptsFacts), evidence.arrays
    raw: list[JudgedConcept] = []
    for row, group in enumerate(facts.classes):
        examples = np.flatnonzero(arrays["class_of"] == group.index)
        raw += [_judged(arrays, group.label, row, number, examples) for number in range(group.concepts)]
    deletion, tcav = (holm([getattr(concept, name) for concept in raw]) for name in ("deletion_p", "tcav_p"))
    corrected = [
        JudgedConcept(**{**vars(concept), "deletion_p": float(first), "tcav_p": float(second)})
        for concept, first, second in zip(raw, deletion, tcav, strict=True)
    ]
    groups = [[concept for concept in corrected if concept.row == row] for row in range(len(facts.classes))]
    return [sorted(group, key=lambda concept: -concept.importance.estimate) for group in groups if group]


def judged_user_concepts(entries: Sequence[TaskResult]) -> list[UserConceptFacts]:
    """The concepts of the user's with p-values corrected for their number.

    Args:
        entries: The measured cell of concepts of one model; none gives none.
    """
    rows = entries[0].evidence.facts_as(ConceptsFacts).user if entries else ()
    corrected = holm([row.p for row in rows])
    return [row.model_copy(update={"p": float(p)}) for row, p in zip(rows, corrected, strict=True)]


def _judged(
    arrays: Mapping[str, Array], label: str, row: int, number: int, examples: NDArray[np.int64]
) -> JudgedConcept:
    def of(name: str) -> Array:
        return np.asarray(arrays[name][examples, number], np.float64)

    importance, deletion, control = of("sensitivity"), of("deletion"), of("deletion_control")
    difference = deletion - control
    spread = float(difference.std(ddof=1)) / len(difference) ** 0.5
    statistic = float(difference.mean()) / spread if spread > 0 else float(np.sign(difference.mean())) * np.inf
    p = float(stdtr(len(difference) - 1, -statistic)) if np.isfinite(statistic) else float(statistic < 0)
    along, random = float(arrays["along"][row, number]), arrays["along_random"][row]
    inside = area = None
    if "inside" in arrays:
        inside, area = of("inside"), np.asarray(arrays["area"][examples], np.float64)
        known = ~np.isnan(inside)
        inside, area = inside[known], area[known]
    return JudgedConcept(
        label,
        row,
        number,
        examples,
        bootstrap_mean(importance, resamples=_RESAMPLES),
        float(deletion.mean()),
        float(control.mean()),
        float(of("insertion").mean()),
        float(of("insertion_control").mean()),
        1.0 if difference.mean() == 0 else p,
        float(arrays["tcav"][row, number]),
        float(arrays["tcav_random"][row, 0]),
        draw_p(along, random.tolist()),
        inside,
        area,
    )
