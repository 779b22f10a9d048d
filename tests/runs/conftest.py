"""A run small enough for every test: the shipped images, one epoch, a handful of examples."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from audit.config import RunConfig, load_config

SMALL: dict[str, Any] = {
    "data": {"train_examples": 300},
    "training": {"epochs": 2, "batch_size": 64},
    "hardening": {"epochs": 1, "batch_size": 64, "recipe": "pgd", "recipe_settings": {"steps": 2}},
    "robustness": {"examples": 24},
    "corruptions": {"examples": 24, "severities": [1, 5]},
    "explanations": {"examples": 3, "methods": ["saliency", "grad-cam", "lime", "shap"]},
    "report": {"gallery": 3},
}

AS_TOML = """
[data]
train_examples = 300
[training]
epochs = 2
batch_size = 64
[hardening]
epochs = 1
batch_size = 64
recipe = "pgd"
recipe_settings = { steps = 2 }
[robustness]
examples = 24
[corruptions]
examples = 24
severities = [1, 5]
[explanations]
examples = 3
methods = ["saliency", "grad-cam", "lime", "shap"]
[report]
gallery = 3
"""


TINY: dict[str, Any] = {
    "data": {"train_examples": 160},
    "training": {"epochs": 1, "batch_size": 32},
    "hardening": {"epochs": 1, "batch_size": 32, "recipe": "pgd", "recipe_settings": {"steps": 1}},
    "robustness": {"examples": 8},
    "corruptions": {"examples": 8, "names": ["fog"], "severities": [3]},
    "explanations": {"examples": 2, "methods": ["saliency"], "calibration": False},
    "report": {"gallery": 2},
    "self_test": {"enabled": False},
    "device": "cpu",
}
"""Smaller still: what goes wrong around a run does not need much of one."""

TINY_AS_TOML = """
device = "cpu"
[data]
train_examples = 160
[training]
epochs = 1
batch_size = 32
[hardening]
epochs = 1
batch_size = 32
recipe = "pgd"
recipe_settings = { steps = 1 }
[robustness]
examples = 8
[corruptions]
examples = 8
names = ["fog"]
severities = [3]
[explanations]
examples = 2
methods = ["saliency"]
calibration = false
[report]
gallery = 2
[self_test]
enabled = false
"""


@pytest.fixture(scope="session")
def small_config() -> RunConfig:
    """The whole job at its smallest."""
    return load_config(overrides=SMALL)


@pytest.fixture
def small_toml(tmp_path: Path) -> Path:
    """The same as a file."""
    path = tmp_path / "audit.toml"
    path.write_text(AS_TOML)
    return path


@pytest.fixture
def tiny_toml(tmp_path: Path) -> Path:
    """A smaller one still, as a file."""
    path = tmp_path / "tiny.toml"
    path.write_text(TINY_AS_TOML)
    return path
