"""Functions that return quantised, exported or half-precision modules: audited, and hardened where that can be."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from audit.config import RunConfig, load_config, merge
from audit.core.errors import ModelError
from audit.models.load import fresh_module
from audit.runs.model_diagnostics import diagnose_model
from audit.runs.setup import set_up

pytestmark = pytest.mark.filterwarnings("ignore")

SOURCE = """
import torch
from torch import nn

def net():
    layers = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(128, 2)).eval()
    with torch.no_grad():
        for number, parameter in enumerate(layers.parameters()):
            parameter.copy_(torch.linspace(-1, 1, parameter.numel()).view(parameter.shape) / (number + 1))
    return layers

def quantised():
    return torch.ao.quantization.quantize_dynamic(net(), {nn.Linear})

def exported():
    return torch.export.export(net(), (torch.rand(2, 1, 10, 10),))

def half():
    return net().half()

def new_in_half():
    return nn.Sequential(nn.Flatten(), nn.Linear(100, 2)).half()
"""


def config(folder: Path, function: str, **more: Any) -> RunConfig:
    images = np.random.default_rng(0).uniform(0, 1, (40, 1, 10, 10)).astype("float32")
    labels = np.arange(40) % 2
    np.savez(folder / "data.npz", x_train=images[:20], y_train=labels[:20], x_test=images[20:], y_test=labels[20:])
    (folder / "net.py").write_text(SOURCE)
    model = {"architecture": f"{folder / 'net.py'}:{function}", "trust": [{"path": str(folder / "net.py")}]}
    subject = {"data": {"source": f"npz:{folder / 'data.npz'}"}, "model": model, "device": "cpu"}
    return load_config(overrides=merge(subject, more))


@pytest.mark.parametrize(
    ("function", "reason"), [("quantised", "no weights, or no gradient"), ("exported", "one size")]
)
def test_a_model_that_cannot_be_trained_is_audited_without_hardening(
    tmp_path: Path, function: str, reason: str
) -> None:
    setup = set_up(config(tmp_path, function))
    assert not setup.config.hardening.enabled and setup.loaded is not None
    assert any(reason in note.text and "not hardened" in note.text for note in setup.loaded.notes)
    with pytest.raises(ModelError, match=f"{reason}.*--harden"):
        set_up(config(tmp_path, function, hardening={"enabled": True}))


def test_a_function_that_returns_half_precision_is_hardened_and_diagnosed(tmp_path: Path) -> None:
    setup = set_up(config(tmp_path, "half"))
    assert setup.config.hardening.enabled
    diagnostics = diagnose_model(config(tmp_path, "half"))
    assert "float32 is audited" in diagnostics.examined[0].observed and diagnostics.fits[0].accuracy is not None


def test_new_weights_in_half_precision_are_trained_in_float32(tmp_path: Path) -> None:
    module, _ = fresh_module(config(tmp_path, "new_in_half").model, classes=2, input_shape=(1, 10, 10), seed=0)
    assert {parameter.dtype for parameter in module.parameters()} == {torch.float32}
