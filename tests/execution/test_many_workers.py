"""What a driver does where it has many workers: it mixes short cells with long ones, and writes beside that."""

from __future__ import annotations

import random
import threading
from pathlib import Path

import pytest

from audit.core.cell import Cell
from audit.core.errors import SetupError
from audit.core.evidence import Evidence
from audit.execution import agenda as agenda_module
from audit.execution.agenda import Agenda
from audit.execution.ready_cells import ReadyCells
from audit.execution.saving import Saving
from audit.planning.plan import AuditPlan, Slice, Task
from audit.storage.store import Store
from tests.execution.test_parallel_executor import CONFIG


def task(number: int, start: int = 0, needs: str = "") -> Task:
    cell = Cell("made-up", f"m{number}", inputs={"before": needs} if needs else {})
    return Task(cell, "standard", Slice("test", start, start + 10), 0)


def test_cells_are_taken_from_both_ends_as_from_a_sorted_list() -> None:
    draw, ready, twin = random.Random(5), ReadyCells(), list[tuple[tuple[float, ...], str]]()
    for number in range(400):
        if twin and draw.random() < 0.45:
            last = draw.random() < 0.5
            assert ready.first_rank == twin[0][0]
            assert ready.take(last=last) == twin.pop(-1 if last else 0)[1]
        else:
            rank = (draw.randrange(3), float(number))
            ready.add(str(number), rank)
            twin = sorted([*twin, (rank, str(number))])
        assert bool(ready) == bool(twin)


def test_the_shortest_cell_is_named_where_it_is_asked_for_and_each_cell_once() -> None:
    tasks = tuple(task(number) for number in range(6))
    agenda = Agenda(AuditPlan(tasks), CONFIG, "longest first", lambda one: float(one.cell.method[1:]))
    named = [agenda.next_task({}, shortest=shortest) for shortest in (False, True, True, False, True, False, False)]
    assert [one and one.cell.method for one in named] == ["m5", "m0", "m1", "m4", "m2", "m3", None]


@pytest.mark.parametrize(("workers", "second"), [(agenda_module.MANY_WORKERS, "m1"), (2, "m2")])
def test_of_equal_chains_that_of_the_first_images_ends_first_where_workers_are_many(workers: int, second: str) -> None:
    """Cell m1 follows m0, and m2 is as m0 on later images; without many workers the longer rest comes first."""
    first = task(0)
    later, after = task(2, start=90), task(1, needs=first.cell.key)
    plan = AuditPlan((first, after, later, *(task(number, start=50) for number in range(3, 30))))
    costs = {"m0": 12.0, "m1": 9.0, "m2": 9.5}
    agenda = Agenda(plan, CONFIG, "longest first", lambda one: costs.get(one.cell.method, 8.0), workers)
    assert agenda.next_task({}) is first
    agenda.done(first)
    following = agenda.next_task({})
    assert following is not None and following.cell.method == second


def test_evidence_is_written_while_the_driver_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store, may_write, put = Store(tmp_path), threading.Event(), Store.put
    monkeypatch.setattr(Store, "put", lambda self, evidence: may_write.wait(30) and put(self, evidence))
    with Saving(store) as saving:
        saving.begin(task(0), Evidence(task(0).cell, "measured"))
        assert list(saving.finished()) == [] and [one.cell.method for one in saving.under_way] == ["m0"]
        may_write.set()
        ((written, evidence),) = saving.finished(wait_for_one=True)
        assert written.cell == evidence.cell == task(0).cell and not saving.under_way
    assert store.has(task(0).cell.key)


def test_a_disk_that_refuses_says_so_when_it_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuses(self: Store, evidence: Evidence) -> None:
        raise SetupError("The disk is full.")

    monkeypatch.setattr(Store, "put", refuses)
    with Saving(Store(tmp_path)) as saving, pytest.raises(SetupError, match="full"):
        saving.begin(task(0), Evidence(task(0).cell, "measured"))
        list(saving.finished(wait_for_one=True))
