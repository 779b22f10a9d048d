"""A run of a loaded model says so when another preparation fits far better, and says nothing when it is right."""

from __future__ import annotations

from pathlib import Path

import pytest

from audit.config import load_config
from audit.runs.setup import set_up
from tests.models.band_net import band_net


@pytest.fixture
def weights_and_data(tmp_path: Path) -> tuple[Path, Path]:
    return band_net(tmp_path)


@pytest.mark.parametrize("std", [None, 1 / 255])
def test_the_note_comes_with_the_wrong_range_and_not_with_the_right(
    std: float | None, weights_and_data: tuple[Path, Path]
) -> None:
    weights, data = weights_and_data
    model = {"weights": str(weights), "architecture": "cnn-28", "std": std}
    overrides = {"model": model, "data": {"source": f"npz:{data}"}, "hardening": {"enabled": False}, "device": "cpu"}
    prepared = set_up(load_config(overrides=overrides))
    assert prepared.loaded is not None
    notes = " ".join(map(str, prepared.loaded.notes))
    assert ("pixels in 0 to 255: give --mean 0 --std 0.003922." in notes) == (std is None)
