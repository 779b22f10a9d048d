"""Queries over results, example by example: cells joined, models aligned on the same examples."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from audit.core.evidence import Array
from audit.planning.parts import part_inputs
from audit.planning.plan import FIRST_STUDIES
from audit.planning.settings import ExplanationSettings
from audit.results.run_results import RunResults, TaskResult


@dataclass(frozen=True)
class PerExample:
    """One value per example.

    Attributes:
        positions: Position of each example in the audit order, int64 (N,).
        values: The values, (N,).
    """

    positions: NDArray[np.int64]
    values: Array

    def at(self, positions: NDArray[np.int64]) -> PerExample:
        """The examples at some positions, in the order they have here.

        Args:
            positions: Positions in the audit order, int64 (M,).
        """
        selected = np.isin(self.positions, positions)
        return PerExample(self.positions[selected], self.values[selected])


def model_roles(results: RunResults) -> tuple[str, ...]:
    """Roles of the models of the run, the one under test first; other tasks have roles too.

    Args:
        results: The run.
    """
    planned = (task.role for task in results.plan.tasks if task.cell.study in (*FIRST_STUDIES, "training"))
    return tuple(dict.fromkeys(planned))


def first_entries(results: RunResults) -> tuple[TaskResult, ...]:
    """The entries of the study of clean images that every model goes through first.

    Args:
        results: The run.
    """
    return tuple(entry for study in FIRST_STUDIES for entry in results.entries(study))


def only_measured(entries: Sequence[TaskResult]) -> tuple[TaskResult, ...]:
    """The entries that hold numbers.

    Args:
        entries: Any entries.
    """
    return tuple(entry for entry in entries if entry.evidence.status == "measured")


def furthest(entries: Sequence[TaskResult]) -> tuple[TaskResult, ...]:
    """The entries that none of the others goes on from: of a study in stages, the last of each that is there.

    Args:
        entries: Any entries.
    """
    read = {key for entry in entries for key in entry.task.cell.inputs.values()}
    return tuple(entry for entry in entries if entry.task.cell.key not in read)


def with_parts(results: RunResults, entries: Sequence[TaskResult]) -> tuple[TaskResult, ...]:
    """The entries, each after the parts that it is joined from, as what is paid for it is paid there.

    Args:
        results: The run.
        entries: Any entries.
    """
    tasks = {task.cell.key: task for task in results.plan.tasks}
    joined: list[TaskResult] = []
    for entry in entries:
        keys = (entry.task.cell.inputs[name] for name in part_inputs(entry.task.cell))
        joined += [TaskResult(tasks[key], results.evidence[key]) for key in keys if key in results.evidence]
        joined.append(entry)
    return tuple(joined)


def cell_keys(entries: Sequence[TaskResult]) -> tuple[str, ...]:
    """The keys of the cells of entries.

    Args:
        entries: Any entries.
    """
    return tuple(entry.task.cell.key for entry in entries)


def per_example(entries: Sequence[TaskResult], measurement: str) -> PerExample:
    """One measurement over the measured entries, in audit order.

    Args:
        entries: Cells of one study, model and condition.
        measurement: Name of the measurement.
    """
    measured = only_measured(entries)
    positions = [np.arange(e.task.examples.start, e.task.examples.stop) for e in measured]
    values = [e.evidence.measurement(measurement).per_example for e in measured]
    if not measured:
        return PerExample(np.zeros(0, np.int64), np.zeros(0))
    order = np.argsort(np.concatenate(positions), kind="stable")
    return PerExample(np.concatenate(positions)[order], np.concatenate(values)[order])


def by_example(entries: Sequence[TaskResult], array: str, *, positions: str = "", axis: int = 0) -> dict[int, Array]:
    """One array over the examples of several cells.

    Args:
        entries: Cells of one study, model and condition; those that were not measured are left out.
        array: Name of the array.
        positions: Name of the array, int64, of the positions of its examples in the audit order. Without it, as in
            evidence of earlier versions, they are the first of the cell.
        axis: Its axis of examples.

    Returns:
        By position in the audit order, the part of the array that belongs to the example.
    """
    values: dict[int, Array] = {}
    for entry in only_measured(entries):
        arrays = entry.evidence.arrays
        if array in arrays:
            rows = np.moveaxis(arrays[array], axis, 0)
            first = entry.task.examples.start
            indices = arrays.get(positions, np.arange(first, first + len(rows)))
            values.update(zip(indices.tolist(), rows, strict=True))
    return values


def clean_correct(results: RunResults, role: str) -> PerExample:
    """Whether each clean image is classified right.

    Args:
        results: The run.
        role: Role of the model.
    """
    return per_example(results.entries("accuracy", role=role), "correct")


def corruption_correct(results: RunResults, role: str) -> PerExample:
    """The share of corruptions and severities under which each image is still classified right.

    It covers the examples that every corruption was applied to at every severity.

    Args:
        results: The run.
        role: Role of the model.
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
    """What the cells of one measurement have in common.

    Attributes:
        method: Name of the method.
        norm: Norm of the threat model; empty without one.
        eps: Its radius, in units of the pixel range [0, 1]; 0 without one.
        setting: Value of the setting that entries are grouped by; None where they are not.
    """

    method: str
    norm: str
    eps: float
    setting: str | int | float | None


def group_by_condition(
    entries: Sequence[TaskResult], setting: str = ""
) -> Iterator[tuple[Condition, tuple[TaskResult, ...]]]:
    """Group entries by method, threat model and the value of a setting; within a group only the examples differ.

    Args:
        entries: Entries of one study and model.
        setting: Name of a setting; empty for none.

    Yields:
        Each condition with its entries, in plan order.
    """
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
    """The entries that explain or measure clean images, not adversarial ones.

    Args:
        entries: Entries with `ExplanationSettings`.
    """
    return tuple(e for e in entries if ExplanationSettings.of(e.task.cell).on == "clean")
