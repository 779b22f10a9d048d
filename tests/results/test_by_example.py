"""Arrays of several cells are read by the place of each example in the audit order."""

from __future__ import annotations

import numpy as np
from made_entries import entry, results_of

from audit.results.queries import by_example


def test_rows_of_all_cells_stand_at_their_examples_place() -> None:
    later = entry("accuracy", "standard", {"correct": np.ones(2)}, start=3, arrays={"logits": np.array([[3], [4]])})
    first = entry("accuracy", "standard", {"correct": np.ones(3)}, arrays={"logits": np.array([[0], [1], [2]])})
    rows = by_example(results_of(later, first).entries("accuracy"), "logits")
    assert {place: row.tolist() for place, row in rows.items()} == {place: [place] for place in range(5)}


def test_an_array_of_some_examples_says_which() -> None:
    arrays = {"adversarial": np.array([[6], [4]]), "adversarial_positions": np.array([6, 4])}
    part = entry("robustness", "standard", {"robust": np.ones(4)}, start=4, arrays=arrays)
    entries = results_of(part).entries("robustness")
    rows = by_example(entries, "adversarial", positions="adversarial_positions")
    assert {place: row.tolist() for place, row in rows.items()} == {6: [6], 4: [4]}


def test_earlier_evidence_holds_the_first_examples_of_its_cell() -> None:
    part = entry("robustness", "standard", {"robust": np.ones(4)}, start=4, arrays={"adversarial": np.zeros((2, 1))})
    rows = by_example(results_of(part).entries("robustness"), "adversarial", positions="adversarial_positions")
    assert list(rows) == [4, 5]


def test_examples_may_stand_on_another_axis_and_failed_cells_hold_nothing() -> None:
    arrays = {"broken_by": np.array([[0, 1], [2, 3], [4, 5]])}
    part = entry("robustness", "standard", {"robust": np.ones(2)}, arrays=arrays)
    failed = entry("robustness", "standard", {"robust": np.ones(2)}, start=2, arrays=arrays, status="failed")
    rows = by_example(results_of(part, failed).entries("robustness"), "broken_by", axis=1)
    assert {place: row.tolist() for place, row in rows.items()} == {0: [0, 2, 4], 1: [1, 3, 5]}
