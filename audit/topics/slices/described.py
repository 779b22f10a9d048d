"""The evidence of slices put together: what is said of each image, and whether a model was right on it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from audit.core.evidence import Array
from audit.core.looks import Look
from audit.metrics.slice_candidates import CLUSTER, slice_candidates
from audit.metrics.weak_slices import TestedSlice, weak_slices
from audit.results.queries import PerExample, clean_correct, group_by_condition, only_measured, per_example
from audit.results.run_results import RunResults, TaskResult
from audit.results.stopping import look_at
from audit.topics.slices.facts import ATTRIBUTES, CLUSTERS, COLUMN, SlicesFacts

OF_DATA = "data:"
"""Prefix of the names of the data's own columns, which may be called as an attribute is."""
SliceOutcome = Literal["clean", "robust"]
SLICE_OUTCOMES: tuple[SliceOutcome, ...] = ("clean", "robust")
"""Whether an image is classified right, and whether it still is under every attack."""
STUDIES: Mapping[SliceOutcome, str] = {"clean": "accuracy", "robust": "robustness"}
"""By outcome, the study that measured it."""
FEWEST_IN_A_SLICE = 40
"""The least images of a slice, in both halves together."""


@dataclass(frozen=True)
class DescribedImages:
    """What is said of the first images of the audit order, and whether a model was right on them.

    Attributes:
        entries: The cells it is read from.
        columns: By name, numbers float64 (N,), NaN where unknown, or texts (N,), "" where unknown.
        labels: The class of each, int64 (N,).
        classes: Names of the classes.
        outcomes: By outcome, yes or no for the images it was measured on.
        pictures: By position in the audit order, uint8 (C, h, w), of some of them.
        looks: By outcome, when the images it was measured on were looked at; of one that is missing, once.
    """

    entries: tuple[TaskResult, ...]
    columns: Mapping[str, Array]
    labels: Array
    classes: tuple[str, ...]
    outcomes: Mapping[SliceOutcome, PerExample]
    pictures: Mapping[int, Array]
    looks: Mapping[SliceOutcome, Look] = field(default_factory=dict)


def described_images(results: RunResults, role: str) -> DescribedImages | None:
    """What the cells of a model say; None where nothing was measured.

    Args:
        results: The run.
        role: Role of the model.
    """
    entries = _without_gaps(only_measured(results.entries("slices", role=role, method=ATTRIBUTES)))
    labels = results.array("accuracy", "labels", role=role)
    if not entries or labels is None or not results.labelled:
        return None
    count = min(entries[-1].task.examples.stop, len(labels))
    grouped = only_measured(results.entries("slices", role=role, method=CLUSTERS))
    columns = {name: values[:count] for name, values in _columns(entries).items()}
    if grouped:
        clusters = grouped[0].evidence.arrays["clusters"][:count]
        columns[CLUSTER] = np.array([f"{number + 1}" for number in clusters], dtype=str)
    outcomes = {"clean": clean_correct(results, role), "robust": _robust(results, role)}
    within = np.arange(count, dtype=np.int64)
    return DescribedImages(
        (*entries, *grouped),
        columns,
        np.asarray(labels[:count]),
        entries[0].evidence.facts_as(SlicesFacts).classes,
        {name: values.at(within) for name, values in outcomes.items() if values.values.size},  # type: ignore[misc]
        {int(position): image for entry in entries for position, image in _pictures(entry)},
        {outcome: look_at(results, STUDIES[outcome], role) for outcome in SLICE_OUTCOMES},
    )


def tested_slices(described: DescribedImages, outcome: SliceOutcome, seed: int) -> tuple[TestedSlice, ...]:
    """The slices that were tested, weak or not, the smallest p-value first; none without the outcome.

    The members of each are of the images that the outcome was measured on, in their order.

    Args:
        described: The images.
        outcome: What they are tested for.
        seed: Of the halves.
    """
    if outcome not in described.outcomes:
        return ()
    measured = described.outcomes[outcome]
    columns = {name: values[measured.positions] for name, values in described.columns.items()}
    labels = described.labels[measured.positions]
    candidates = slice_candidates(columns, labels, described.classes, fewest=FEWEST_IN_A_SLICE)
    return weak_slices(measured.values > 0, candidates, seed=seed)


def _robust(results: RunResults, role: str) -> PerExample:
    """Whether each image is still classified right under every attack of the first battery."""
    groups = list(group_by_condition(results.entries("robustness", role=role)))
    return per_example(groups[0][1], "robust") if groups else PerExample(np.zeros(0, np.int64), np.zeros(0))


def _without_gaps(entries: Sequence[TaskResult]) -> tuple[TaskResult, ...]:
    """The cells from the first image on, as far as none is missing."""
    whole: list[TaskResult] = []
    for entry in sorted(entries, key=lambda item: item.task.examples.start):
        if entry.task.examples.start != (whole[-1].task.examples.stop if whole else 0):
            break
        whole.append(entry)
    return tuple(whole)


def _columns(entries: Sequence[TaskResult]) -> dict[str, Array]:
    facts = [entry.evidence.facts_as(SlicesFacts) for entry in entries]
    attributes = np.concatenate([entry.evidence.arrays["attributes"] for entry in entries]).astype(np.float64)
    columns: dict[str, Array] = {name: attributes[:, i] for i, name in enumerate(facts[0].attributes)}
    for number, column in enumerate(facts[0].columns):
        parts = [
            _texts(entry.evidence.arrays[f"{COLUMN}{number}"], said.columns[number].groups)
            for entry, said in zip(entries, facts, strict=True)
        ]
        columns[OF_DATA + column.name] = np.concatenate(parts)
    return columns


def _texts(values: Array, groups: Sequence[str]) -> Array:
    """The groups that an array counts, as texts; an array of numbers as it is."""
    if values.dtype.kind == "f":
        return values
    names: NDArray[np.str_] = np.array([*groups, ""], dtype=str)
    return names[values]


def _pictures(entry: TaskResult) -> Iterator[tuple[int, Array]]:
    arrays = entry.evidence.arrays
    return zip(arrays["pictured"].tolist(), arrays["pictures"], strict=True)
