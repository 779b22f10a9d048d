import errno
import json
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest

from audit.core.cell import Cell
from audit.core.errors import SetupError
from audit.core.evidence import Evidence, Measurement
from audit.core.note import note
from audit.results.facts import ExplanationFacts
from audit.storage import store as store_module
from audit.storage.store import Store, write_atomically

CELL = Cell("robustness", "quick", "1", {"steps": 40}, "model", "examples", 3, {"norm": "linf", "eps": 0.1}, {"a": "b"})


def evidence(cell: Cell = CELL) -> Evidence:
    return Evidence(
        cell,
        "measured",
        measurements=(Measurement("robust", "share", "higher", np.array([1.0, 0.0])),),
        arrays={"adversarial": np.arange(6, dtype=np.float32).reshape(1, 2, 3), "flags": np.array([True, False])},
        facts={"eps": [0.1], "attacks": ["fgsm"]},
        forwards=7,
        backwards=5,
        seconds=1.5,
        environment={"device": "cpu"},
    )


def test_every_field_of_a_cell_changes_its_key() -> None:
    others = {
        "study": "x",
        "method": "x",
        "version": "2",
        "settings": {"steps": 41},
        "model": "x",
        "examples": "x",
        "seed": 4,
        "threat": {"norm": "l2", "eps": 0.1},
        "inputs": {"a": "c"},
    }
    assert set(others) == {field.name for field in fields(Cell)}
    keys = {replace(CELL, **{name: value}).key for name, value in others.items()}  # type: ignore[arg-type]
    assert len(keys | {CELL.key}) == len(others) + 1


def test_a_key_does_not_depend_on_the_order_of_settings() -> None:
    one, two = replace(CELL, settings={"a": 1, "b": 2}), replace(CELL, settings={"b": 2, "a": 1})
    assert one.key == two.key


def test_what_is_put_comes_back_whole(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.put(evidence())
    stored = store.get(CELL.key)
    assert stored is not None
    assert (stored.cell, stored.facts, stored.forwards, stored.seconds) == (CELL, evidence().facts, 7, 1.5)
    assert np.array_equal(stored.arrays["flags"], [True, False])
    assert stored.arrays["adversarial"].dtype == np.float32
    assert stored.measurement("robust").mean == 0.5
    with pytest.raises(KeyError, match="robust"):
        stored.measurement("clean")


@pytest.mark.parametrize("name", ["evidence.json", "arrays.safetensors"])
@pytest.mark.parametrize("damage", ["flip", "truncate"])
def test_damaged_evidence_is_removed_and_not_believed(tmp_path: Path, name: str, damage: str) -> None:
    store = Store(tmp_path)
    store.put(evidence())
    (path,) = tmp_path.rglob(name)
    body = bytearray(path.read_bytes())
    body[len(body) // 2] ^= 0x04
    path.write_bytes(bytes(body) if damage == "flip" else bytes(body[: len(body) // 2]))
    assert store.get(CELL.key) is None
    assert not store.has(CELL.key)


def test_a_write_that_fails_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(tmp_path)
    store.put(evidence())

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "no space")

    monkeypatch.setattr(store_module.os, "fsync", full)
    with pytest.raises(SetupError, match="full"):
        store.put(replace(evidence(), forwards=8))
    with pytest.raises(SetupError, match="full"):
        write_atomically(tmp_path / "audit.json", "half")
    monkeypatch.undo()
    stored = store.get(CELL.key)
    assert stored is not None and stored.forwards == 7
    assert not list(tmp_path.rglob(".draft-*"))
    assert not (tmp_path / "audit.json").exists()


def test_evidence_on_disk_is_readable_json(tmp_path: Path) -> None:
    Store(tmp_path).put(evidence())
    (path,) = tmp_path.rglob("evidence.json")
    assert json.loads(path.read_text())["body"]["cell"]["method"] == "quick"


def test_a_reason_keeps_its_key_and_values_and_a_plain_one_stays_plain(tmp_path: Path) -> None:
    store = Store(tmp_path)
    said = note("no_map", "Layer '{layer}' gives no map.", layer="fc")
    for reason in (said, "Out of memory.", ""):
        store.put(replace(evidence(), status="not_applicable", reason=reason))
        found = store.get(CELL.key)
        assert found is not None and found.reason == reason and type(found.reason) is type(reason)


def test_a_note_among_the_facts_is_stored_as_json(tmp_path: Path) -> None:
    store = Store(tmp_path)
    said = note("background", "the first {count} of the explained images", count=4)
    store.put(replace(evidence(), facts={"baseline": said, "segments": None}))
    found = store.get(CELL.key)
    assert found is not None and ExplanationFacts.model_validate(dict(found.facts)).baseline == said


def test_arrays_come_back_in_one_order(tmp_path: Path) -> None:
    """safetensors 0.8.0 gives arrays parsed from bytes in another order in every process."""
    store, names = Store(tmp_path), [f"curve_{number:02d}" for number in range(12)]
    store.put(replace(evidence(), arrays={name: np.zeros(2) for name in reversed(names)}))
    stored = store.get(CELL.key)
    assert stored is not None and list(stored.arrays) == names
