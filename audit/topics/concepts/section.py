"""The concepts of each class: rows of the document."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from audit.core.evidence import Array
from audit.core.note import Note, note
from audit.document.images import marked_strip
from audit.document.model import DocumentModel, Picture
from audit.document.section import Rows, SectionContext
from audit.results.queries import only_measured
from audit.results.run_results import RunResults, TaskResult
from audit.topics.concepts.facts import ConceptsFacts
from audit.topics.concepts.judged import CONCEPT_LEVEL, JudgedConcept, judged_concepts, judged_user_concepts

PICTURED = 2
"""Concepts of a class that are shown with pictures, the most important ones."""
_GATHERED = 0.5
"""The share of a map's rows, or columns, in one third of the image from which it counts as lying there."""
_SAME = 0.5
"""Cosine of the maps of two models' concepts from which they count as the same."""


class ConceptRow(DocumentModel):
    """A concept of a class of one model.

    Attributes:
        role: Role of the model.
        label: Name of the class.
        number: Its place among the concepts of the class by importance, from 1.
        layer: Name of the layer it was found in.
        images: Images of the class.
        importance: Its total Sobol index: the share of the variance of the class's logit that is lost without it.
        low: Lower bound of its 95% bootstrap interval over images.
        high: Upper bound.
        deletion: What taking it off lowers the class's logit by.
        deletion_control: The same of random directions of as much energy.
        insertion: What it alone raises the logit by.
        insertion_control: The same of random directions of as much energy.
        faithful: Whether the model depends on it more than on random directions, corrected for all concepts.
        score: Its TCAV score, the share of images whose logit rises along it.
        random_score: That of random sets of crops.
        tested: Whether the two differ, corrected for all concepts.
        where: Where on the images it lies, in words; empty where it lies all over.
        inside: The share of its map inside the masks; None without masks.
        area: The area of these masks as a share of the image.
        off_object: Whether it lies off the masks more than chance has it.
        counterpart: The number of the same concept of the model under test; None where there is none.
        cosine: Of the maps of the two.
        before: The importance of the counterpart.
        picture: The images with most of it, tinted where it lies; None for the less important ones.
    """

    role: str
    label: str
    number: int
    layer: str
    images: int
    importance: float
    low: float
    high: float
    deletion: float
    deletion_control: float
    insertion: float
    insertion_control: float
    faithful: bool
    score: float
    random_score: float
    tested: bool
    where: list[Note]
    inside: float | None = None
    area: float | None = None
    off_object: bool = False
    counterpart: int | None = None
    cosine: float | None = None
    before: float | None = None
    picture: Picture | None = None


class UserConceptRow(DocumentModel):
    """A concept of the user's on one class of one model.

    Attributes:
        role: Role of the model.
        name: Its name.
        label: Name of the class.
        images: Images of the concept.
        score: Its TCAV score, the share of images whose logit rises along it.
        random_score: That of random sets of images.
        p: The p-value that it is a random concept, corrected for all classes and concepts.
        moves: Whether the class is sensitive to it.
    """

    role: str
    name: str
    label: str
    images: int
    score: float
    random_score: float
    p: float
    moves: bool


def build(results: RunResults, context: SectionContext) -> Rows:
    """The concepts of each class of each model, and those of the user's.

    Args:
        results: The run.
        context: What the rows need besides the evidence.
    """
    entries = {role: only_measured(results.entries("concepts", role=role)) for role in context.roles}
    judged = {role: judged_concepts(cells) for role, cells in entries.items() if cells}
    first = next(iter(judged), None)
    rows = [
        row
        for role, groups in judged.items()
        for row in _rows(
            role,
            groups,
            entries[role][0],
            (entries[first][0], judged[first]) if first is not None and role != first else None,
            context.pictures,
        )
    ]
    user = [
        UserConceptRow(role=role, moves=row.p < CONCEPT_LEVEL, **row.model_dump())
        for role, cells in entries.items()
        for row in judged_user_concepts(cells)
    ]
    return {"concepts": rows, "user_concepts": user}


_Judged = list[list[JudgedConcept]]


def _rows(
    role: str, groups: _Judged, entry: TaskResult, other: tuple[TaskResult, _Judged] | None, pictures: bool
) -> list[ConceptRow]:
    facts, arrays = entry.evidence.facts_as(ConceptsFacts), entry.evidence.arrays
    rows = []
    for group in groups:
        same = _counterparts(group, arrays["maps"], other) if other else {}
        for number, concept in enumerate(group, start=1):
            counterpart, cosine, before = same.get(concept.number, (None, None, None))
            background = concept.background
            rows.append(
                ConceptRow(
                    role=role,
                    label=concept.label,
                    number=number,
                    layer=facts.layer,
                    images=len(concept.examples),
                    importance=concept.importance.estimate,
                    low=concept.importance.low,
                    high=concept.importance.high,
                    deletion=concept.deletion,
                    deletion_control=concept.deletion_control,
                    insertion=concept.insertion,
                    insertion_control=concept.insertion_control,
                    faithful=concept.faithful,
                    score=concept.tcav,
                    random_score=concept.tcav_random,
                    tested=concept.tested,
                    where=place_words(np.asarray(arrays["maps"][concept.examples, concept.number], np.float64)),
                    inside=None if background is None else float(np.mean(concept.inside)),  # type: ignore[arg-type]
                    area=None if background is None else float(np.mean(concept.area)),  # type: ignore[arg-type]
                    off_object=background is not None and background.high < 0,
                    counterpart=counterpart,
                    cosine=cosine,
                    before=before,
                    picture=_picture(concept, entry) if pictures and number <= PICTURED else None,
                )
            )
    return rows


def _picture(concept: JudgedConcept, entry: TaskResult) -> Picture:
    arrays = entry.evidence.arrays
    maps = arrays["shown_maps"][concept.row, concept.number]
    return marked_strip(arrays["shown"][concept.row, concept.number], np.asarray(maps, np.float64) / 255)


def place_words(maps: Array) -> list[Note]:
    """Where most of some maps lies, by thirds of the image; empty where it lies all over.

    Args:
        maps: Not negative, float (N, h, w).
    """
    words: list[Note] = []
    mean = np.asarray(maps, np.float64).mean(0)
    for axis, names in ((0, _ROWS), (1, _COLUMNS)):
        line = mean.sum(1 - axis)
        if len(line) < 3 or not line.sum() > 0:
            continue
        thirds = np.add.reduceat(line, [round(len(line) * third / 3) for third in range(3)]) / line.sum()
        if thirds.max() >= _GATHERED:
            words.append(names[int(thirds.argmax())])
    return words


_ROWS = (
    note("at_the_top", "at the top"),
    note("half_way_up", "half way up"),
    note("at_the_bottom", "at the bottom"),
)
_COLUMNS = (
    note("on_the_left", "on the left"),
    note("in_the_middle", "in the middle"),
    note("on_the_right", "on the right"),
)


def _counterparts(
    group: Sequence[JudgedConcept], maps: Array, other: tuple[TaskResult, _Judged]
) -> dict[int, tuple[int, float, float]]:
    """By concept, the same one of the other model: its number, the cosine of their maps, and its importance.

    The maps are those of the same images, so that layers of other weights, or of another net, can be compared.
    """
    from scipy.optimize import linear_sum_assignment

    entry, groups = other
    theirs = entry.evidence.arrays["maps"]
    match = next((candidates for candidates in groups if candidates[0].label == group[0].label), None)
    if match is None or theirs.shape[2:] != maps.shape[2:] or not np.array_equal(match[0].examples, group[0].examples):
        return {}
    first = np.stack([_unit(theirs[c.examples, c.number]) for c in match])
    second = np.stack([_unit(maps[c.examples, c.number]) for c in group])
    cosines = second @ first.T
    rows, columns = linear_sum_assignment(-cosines)
    return {
        group[row].number: (int(column) + 1, float(cosines[row, column]), match[column].importance.estimate)
        for row, column in zip(rows, columns, strict=True)
        if cosines[row, column] >= _SAME
    }


def _unit(maps: Array) -> Array:
    flat = np.asarray(maps, np.float64).ravel()
    return flat / max(float(np.linalg.norm(flat)), 1e-300)
