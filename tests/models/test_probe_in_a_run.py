"""A run of a loaded model says so when another preparation fits far better, and says nothing when it is right."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch.nn.functional import one_hot

from audit.config import load_config
from audit.job.prepare import prepare
from audit.models.architecture import build


@pytest.fixture
def given(tmp_path: Path) -> tuple[Path, Path]:
    """Weights and data: the brightness of a band says the class, and the weights were fitted to pixels of 0 to 255."""
    rng = np.random.default_rng(0)
    labels = np.arange(160) % 4
    images = rng.integers(40, 90, (160, 28, 28))
    for i, label in enumerate(labels):
        images[i, 7 * label : 7 * label + 7] += 100
    np.savez(tmp_path / "d.npz", images=images.astype(np.uint8), labels=labels)
    net = build("cnn-28", classes=4, input_shape=(1, 28, 28), seed=0).eval()
    head = [part for part in net.modules() if isinstance(part, torch.nn.Linear)][-1]
    found: list[torch.Tensor] = []
    head.register_forward_pre_hook(lambda module, inputs: found.append(inputs[0]))
    pixels = torch.from_numpy(images.astype(np.float32))[:, None]
    with torch.no_grad():
        net(pixels)
        features = torch.cat([found[0], torch.full((160, 1), 255.0)], dim=1).double()
        targets = one_hot(torch.from_numpy(labels), 4).double()
        solved = torch.linalg.solve(features.T @ features + 1e-3 * torch.eye(features.shape[1]), features.T @ targets)
        head.weight.copy_(solved[:-1].T)
        head.bias.copy_(solved[-1] * 255)
    save_file(net.state_dict(), tmp_path / "net.safetensors")
    return tmp_path / "net.safetensors", tmp_path / "d.npz"


@pytest.mark.parametrize("std", [None, 1 / 255])
def test_the_note_comes_with_the_wrong_range_and_not_with_the_right(
    std: float | None, given: tuple[Path, Path]
) -> None:
    weights, data = given
    model = {"weights": str(weights), "architecture": "cnn-28", "std": std}
    overrides = {"model": model, "data": {"source": f"npz:{data}"}, "hardening": {"enabled": False}, "device": "cpu"}
    prepared = prepare(load_config(overrides=overrides))
    assert prepared.loaded is not None
    notes = " ".join(prepared.loaded.notes)
    assert ("pixels in 0 to 255: give --mean 0 --std 0.003922." in notes) == (std is None)
