"""A checkpoint comes back whole or not at all; one of a cell is saved when enough work would be lost."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
import torch

from audit.storage import checkpoint
from audit.storage.checkpoint import CellCheckpoint, load_checkpoint, load_checkpoint_values, save_checkpoint

TENSORS = {
    "half": torch.arange(6, dtype=torch.bfloat16).reshape(2, 3),
    "strided": torch.arange(6.0).reshape(2, 3).T,
    "scalar": torch.tensor(7),
    "empty": torch.zeros(0, 4),
}


def test_tensors_and_values_come_back_as_they_were(tmp_path: Path) -> None:
    path = tmp_path / "new folder" / "file"
    save_checkpoint(path, TENSORS, facts={"step": 3, "loss": 0.1}, names=["a", None])
    tensors, values = load_checkpoint(path)
    assert tensors.keys() == TENSORS.keys()
    for name, tensor in tensors.items():
        assert tensor.dtype == TENSORS[name].dtype and torch.equal(tensor, TENSORS[name])
    assert values == {"facts": {"step": 3, "loss": 0.1}, "names": ["a", None]} == load_checkpoint_values(path)


@pytest.mark.parametrize("position", [9, 100, -1])
def test_one_flipped_bit_anywhere_is_refused(tmp_path: Path, position: int) -> None:
    path = tmp_path / "file"
    save_checkpoint(path, TENSORS, facts={"a sentence": "long enough to hold the middle of the file" * 4})
    body = bytearray(path.read_bytes())
    body[position] ^= 1
    path.write_bytes(body)
    with pytest.raises(ValueError, match=r"checksum|deserializ|[Hh]eader"):
        load_checkpoint(path)


@pytest.mark.parametrize("read", [load_checkpoint, load_checkpoint_values])
def test_a_missing_file_is_refused(tmp_path: Path, read: object) -> None:
    assert callable(read)
    with pytest.raises(ValueError, match="nothing"):
        read(tmp_path / "nothing")


def test_a_cell_finds_its_checkpoint_and_forgets_a_damaged_one(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "0123456789abcdef" / "cell.safetensors"
    assert CellCheckpoint(path).load() is None
    CellCheckpoint(path).save({"x": torch.ones(2)}, {"rows": [1]})
    stored = CellCheckpoint(path).load()
    assert stored is not None
    assert torch.equal(stored[0]["x"], torch.ones(2)) and stored[1] == {"rows": [1]}
    path.write_bytes(path.read_bytes()[:-1])
    with caplog.at_level(logging.WARNING):
        assert CellCheckpoint(path).load() is None
    assert "Unfinished work in 0123456789ab is damaged" in caplog.text and not path.exists()


def test_a_save_is_due_when_enough_time_has_passed_since_the_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seconds = [100.0]
    monkeypatch.setattr(checkpoint.time, "monotonic", lambda: seconds[0])
    cell = CellCheckpoint(tmp_path / "file")
    assert not cell.is_due
    seconds[0] += checkpoint.SAVE_INTERVAL_SECONDS
    assert cell.is_due
    cell.save({}, None)
    assert not cell.is_due
