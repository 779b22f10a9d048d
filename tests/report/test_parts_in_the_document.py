"""The document shows cells that are joined from parts as it shows whole ones."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from made_entries import entry, results_of
from made_run import built_rows

from audit.core.evidence import Evidence
from audit.document.measures import measures
from audit.planning.plan import Task
from audit.report.outcomes import gaps, study_costs

FACTS = {"threat": "rotation", "target": "", "made_on": 0, "made_by": "", "agreement": None, "faults": 0}


def joined(whole: tuple[Task, Evidence], *parts: tuple[Task, Evidence]) -> tuple[tuple[Task, Evidence], ...]:
    """The entries, where the first is of a cell whose inputs are the others."""
    task, evidence = whole
    cell = replace(task.cell, inputs={f"part {t.examples.start}": t.cell.key for t, _ in parts})
    return (*parts, (replace(task, cell=cell), replace(evidence, cell=cell)))


def halves(study: str, name: str, **rest: object) -> list[tuple[Task, Evidence]]:
    values = np.arange(8) / 8
    return [entry(study, "standard", {name: values[s : s + 4]}, start=s, method="spatial", **rest) for s in (0, 4)]


def test_what_parts_cost_is_what_the_joined_cell_cost() -> None:
    facts = {**FACTS, "scored": 8, "right": 8, "control": 8}
    parts = halves("other-threats-part", "withstood", forwards=70, backwards=3, facts=facts)
    whole = entry("other-threats", "standard", {"withstood": np.ones(8)}, method="spatial", facts=facts, forwards=2)
    results = results_of(*joined(whole, *parts))
    (row,) = built_rows("other_threats", results)
    assert (row.cost.forwards, row.cost.backwards, row.withstood.n) == (142, 6, 8)
    assert [(c.study, c.cells, c.cost.forwards) for c in study_costs(results)] == [
        ("other-threats-part", 2, 140),
        ("other-threats", 1, 2),
    ]


def test_measurements_are_listed_once() -> None:
    whole = entry("drift", "standard", {"agreement": np.arange(8) / 8}, method="spatial", settings={"kind": "x"})
    alone = measures(results_of(whole))
    parts = halves("drift-part", "agreement", settings={"kind": "x"})
    assert measures(results_of(*joined(whole, *parts))) == alone and len(alone) == 1


def test_what_does_not_apply_to_any_part_is_one_gap() -> None:
    status = {"status": "not_applicable", "reason": "no layer"}
    parts = halves("explanation-part", "error", **status)
    (gap,) = gaps(results_of(*joined(entry("explanation", "standard", {}, method="spatial", **status), *parts)))
    assert (gap.study, gap.method, gap.status, str(gap.reason)) == (
        "explanation",
        "spatial",
        "not_applicable",
        "no layer",
    )
