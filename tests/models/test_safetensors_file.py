"""Metadata beside weights: what safetensors reads back, in the same bytes every time."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load, save

from audit.models.formats.safetensors_file import with_metadata

WEIGHTS = {"b": np.arange(5, dtype=np.float32), "a": np.ones((2, 3), np.float16), "empty": np.zeros((0, 2), np.int8)}
NOTES = {"z": "1", "classes": '["猫", "dog"]', "a": "x" * 99}


@pytest.mark.parametrize("notes", [{}, NOTES, dict(reversed(NOTES.items()))])
def test_the_library_reads_back_what_was_written(notes: dict[str, str], tmp_path: Path) -> None:
    body = with_metadata(save(WEIGHTS), notes)
    tensors = load(body)
    assert all(
        np.array_equal(tensors[name], value) and tensors[name].dtype == value.dtype for name, value in WEIGHTS.items()
    )
    (tmp_path / "net.safetensors").write_bytes(body)
    with safe_open(tmp_path / "net.safetensors", framework="np") as file:
        assert (file.metadata() or {}) == notes


def test_the_bytes_do_not_depend_on_any_order() -> None:
    turned = dict(reversed(NOTES.items()))
    assert with_metadata(save(WEIGHTS), NOTES) == with_metadata(save(WEIGHTS), turned)
