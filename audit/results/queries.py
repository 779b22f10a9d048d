"""A results read example by example: chunks joined, models aligned on the same examples."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from audit.core.evidence import Array
from audit.planning.settings import ExplanationSettings
from audit.results.run_results import RunResults, TaskResult


@dataclass(frozen=True)
class PerExample:
    """One value an example, (N,), with the example's place in the audit order, int64 (N,)."""

    positions: NDArray[np.int64]
    values: Array

    def at(self, positions: NDArray[np.int64]) -> PerExample:
        """Only those examples that stand at `positions`, in their order here."""
        keep = np.isin(self.positions, positions)
        return PerExample(self.positions[keep], self.values[keep])


def model_roles(results: RunResults) -> tuple[str, ...]:
    """The models of the run, the one under test first: whose clean accuracy was planned. Other tasks have roles too."""
    planned = (task.role for task in results.plan.tasks if task.cell.study in ("accuracy", "training"))
    return tuple(dict.fromkeys(planned))


def only_measured(entries: Sequence[TaskResult]) -> tuple[TaskResult, ...]:
    """The entries that hold numbers."""
    return tuple(entry for entry in entries if entry.evidence.status == "measured")


def cell_keys(entries: Sequence[TaskResult]) -> tuple[str, ...]:
    """The cell keys behind `entries`."""
    return tuple(entry.task.cell.key for entry in entries)


def per_example(entries: Sequence[TaskResult], measurement: str) -> PerExample:
    """`measurement` over the measured entries, in audit order."""
    kept = only_measured(entries)
    places = [np.arange(e.task.examples.start, e.task.examples.stop) for e in kept]
    values = [e.evidence.measurement(measurement).per_example for e in kept]
    if not kept:
        return PerExample(np.zeros(0, np.int64), np.zeros(0))
    order = np.argsort(np.concatenate(places), kind="stable")
    return PerExample(np.concatenate(places)[order], np.concatenate(values)[order])


def by_example(entries: Sequence[TaskResult], array: str, *, positions: str = "", axis: int = 0) -> dict[int, Array]:
    """One array over the examples of several cells.

    Args:
        entries: Cells of one study, model and condition; those that were not measured hold nothing.
        array: Name of the array.
        positions: Name of the array that says which examples it holds, int64, places in the audit order. Without it,
            as in evidence of earlier versions, they are the first of the cell.
        axis: Its axis of examples.

    Returns:
        By place in the audit order, the part of the array that belongs to the example.
    """
    parts: dict[int, Array] = {}
    for entry in only_measured(entries):
        arrays = entry.evidence.arrays
        if array in arrays:
            rows = np.moveaxis(arrays[array], axis, 0)
            first = entry.task.examples.start
            places = arrays.get(positions, np.arange(first, first + len(rows)))
            parts.update(zip(places.tolist(), rows, strict=True))
    return parts


def clean_correct(results: RunResults, role: str) -> PerExample:
    """Whether each clean image is classified right."""
    return per_example(results.entries("accuracy", role=role), "correct")


def corruption_correct(results: RunResults, role: str) -> PerExample:
    """The share of corruptions and severities under which each image is still classified right.

    Only the examples that every corruption saw at every severity.
    """
    runs = [
        per_example(group, "correct")
        for _, group in group_by_condition(results.entries("corruption", role=role), "severity")
    ]
    runs = [run for run in runs if run.values.size]
    if not runs:
        return PerExample(np.zeros(0, np.int64), np.zeros(0))
    common = runs[0].positions
    for run in runs[1:]:
        common = np.intersect1d(common, run.positions)
    return PerExample(common, np.mean([run.at(common).values for run in runs], axis=0))


@dataclass(frozen=True)
class Condition:
    """What the chunks of one measurement have in common; `setting` is one setting's value, None where not asked."""

    method: str
    norm: str
    eps: float
    setting: str | int | float | None


def group_by_condition(
    entries: Sequence[TaskResult], setting: str = ""
) -> Iterator[tuple[Condition, tuple[TaskResult, ...]]]:
    """Entries by method, threat model and the value of `setting`, in plan order: a group's differ in examples alone."""
    groups: dict[Condition, list[TaskResult]] = {}
    for entry in entries:
        groups.setdefault(_condition(entry, setting), []).append(entry)
    for condition, members in groups.items():
        yield condition, tuple(members)


def _condition(entry: TaskResult, setting: str) -> Condition:
    cell, threat = entry.task.cell, entry.task.cell.threat or {}
    return Condition(
        cell.method, str(threat.get("norm", "")), float(threat.get("eps", 0.0)), cell.settings.get(setting)
    )


def on_clean_images(entries: Sequence[TaskResult]) -> tuple[TaskResult, ...]:
    """Entries that explain or judge clean images, not adversarial ones."""
    return tuple(e for e in entries if ExplanationSettings.of(e.task.cell).on == "clean")
