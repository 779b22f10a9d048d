from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from bare_context import bare_context
from broken_models import BROKEN, held_out, trained, wrap

from audit.adversarial.batteries import battery_named
from audit.adversarial.red_flags import RedFlag
from audit.adversarial.sanity import full_box_threat
from audit.core import method_table
from audit.core.cell import Cell
from audit.core.evidence import Evidence, Measurement
from audit.core.registry import find
from audit.core.threat import Norm
from audit.core.types import Batch
from audit.models.under_test import ModelUnderTest
from audit.planning.plan import Slice, Task
from audit.results.run_results import TaskResult
from audit.topics.attack_controls.protocol import twice
from audit.topics.attack_controls.study import MEASUREMENTS, attack_controls
from audit.topics.model_sanity.pooled_flags import pooled_flags
from audit.topics.robustness.study import robustness

THREAT = {"norm": "linf", "eps": 0.1}
CELL = Cell("attack-controls", "quick", settings={"eps": [0.05, 0.1, 0.2]}, threat=THREAT)


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUDIT_CACHE_DIR", str(tmp_path))


def run(
    model: ModelUnderTest,
    batch: Batch,
    cell: Cell = CELL,
    robust: np.ndarray | None = None,
    at: slice | None = None,
) -> Evidence:
    attacked = Cell("robustness", cell.method, settings={"eps": [cell.threat["eps"]], "kept": 1}, threat=cell.threat)
    if robust is None:
        found = robustness(bare_context(model, batch, attacked), attacked)
    else:
        found = Evidence(attacked, "measured", (Measurement("robust", "share", "higher", robust),))
    rows = at or slice(0, len(batch))
    batch = batch.select(torch.arange(len(batch))[rows])
    context = replace(bare_context(model, batch, cell), evidence={"robustness": found}.__getitem__)
    examples = Slice("test", rows.start, rows.start + len(batch))
    context = replace(context, task=replace(context.task, examples=examples))
    return attack_controls(context, cell)


def flags(*cells: Evidence) -> tuple[RedFlag, ...]:
    sizes = [len(cell.measurements[0].per_example) for cell in cells]
    slices = [Slice("test", sum(sizes[:i]), sum(sizes[: i + 1])) for i in range(len(cells))]
    return pooled_flags(
        [TaskResult(Task(cell.cell, "standard", at, 0), cell) for cell, at in zip(cells, slices, strict=True)]
    )


def names(evidence: Evidence) -> set[str]:
    return {flag.name for flag in flags(evidence)}


@pytest.mark.parametrize("hardened", [False, True])
def test_on_an_honest_model_every_control_holds(hardened: bool) -> None:
    evidence = run(wrap(trained(hardened)), held_out(24))
    assert flags(evidence) == ()
    assert [m.name for m in evidence.measurements] == list(MEASUREMENTS)
    assert all(m.per_example.shape == (24,) for m in evidence.measurements)
    assert evidence.forwards > evidence.backwards > 0


@pytest.mark.parametrize("name", ["quantised input", "jpeg-like rounding", "saturated tanh"])
def test_a_model_that_blinds_gradients_fails_them(name: str) -> None:
    assert names(run(wrap(BROKEN[name](trained(hardened=False))), held_out(24)))


def test_a_battery_that_stopped_early_is_seen_by_twice_the_effort() -> None:
    """Everything is claimed robust; twice the battery breaks most of it."""
    evidence = run(wrap(trained(hardened=False)), held_out(24), robust=np.ones(24))
    gained = evidence.measurement("doubled").per_example
    assert gained.mean() > 0.3 and "doubled" in names(evidence)
    assert f"{int(gained.sum())} of 24" in str(flags(evidence)[-1].sentence)


def test_cells_of_any_size_join_to_the_controls_of_one() -> None:
    """Each cell alone would see less: one image of seven is above no threshold that wants two."""
    model, batch, claimed = wrap(BROKEN["quantised input"](trained(hardened=False))), held_out(20), np.ones(20)
    whole = run(model, batch, robust=claimed)
    pieces = [run(model, batch, robust=claimed, at=slice(start, start + 7)) for start in (0, 7, 14)]
    for name in MEASUREMENTS:
        values = np.concatenate([piece.measurement(name).per_example for piece in pieces])
        np.testing.assert_array_equal(values, whole.measurement(name).per_example, err_msg=name)
    assert flags(*pieces) == flags(whole) != ()


def test_the_same_seed_gives_the_same_evidence(cnn_model: ModelUnderTest, cnn_batch: Batch) -> None:
    first, second = (run(cnn_model, cnn_batch) for _ in range(2))
    for name in MEASUREMENTS:
        np.testing.assert_array_equal(first.measurement(name).per_example, second.measurement(name).per_example)


@pytest.mark.parametrize("battery", ["quick", "standard", "autoattack", "full"])
def test_twice_doubles_every_effort_and_leaves_nothing_out(battery: str) -> None:
    for before, after in zip(battery_named(battery).entries, twice(battery_named(battery)).entries, strict=True):
        assert (after.title, after.control_sample, after.hardest_fraction) == (before.title, 0, 1.0)
        for name in ("steps", "queries"):
            if name in before.settings:
                assert after.settings[name] == 2 * before.settings[name]
        assert not after.settings.get("give_up")


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_the_box_lets_any_image_become_any_other(norm: Norm) -> None:
    black, white = torch.zeros(1, 3, 4, 4), torch.ones(1, 3, 4, 4)
    assert full_box_threat(norm, 48).allows(white, black).all()


def test_an_attack_that_declares_no_effort_is_named_and_left_as_it_is(
    cnn_model: ModelUnderTest, cnn_batch: Batch, monkeypatch: pytest.MonkeyPatch
) -> None:
    battery = battery_named("pgd,fgsm")
    cell = replace(CELL, method="custom", settings={**CELL.settings, "protocol": battery.describe()})
    claimed = np.ones(len(cnn_batch))
    assert "effort_not_declared" not in run(cnn_model, cnn_batch, cell, claimed).facts
    pgd = find("attack", "pgd")
    monkeypatch.setitem(method_table._METHODS, ("attack", "pgd"), replace(pgd, facts={**pgd.facts, "effort": None}))
    assert twice(battery).entries[0].settings["steps"] == pgd.defaults["steps"]
    assert run(cnn_model, cnn_batch, cell, claimed).facts["effort_not_declared"] == ["pgd"]
