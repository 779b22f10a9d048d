"""A run small enough for every test: the shipped images, one epoch, a handful of examples."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from audit.config import RunConfig, load_config

SMALL: dict[str, Any] = {
    "data": {"train_examples": 300},
    "training": {"epochs": 2, "batch_size": 64},
    "hardening": {"epochs": 1, "batch_size": 64, "recipe_settings": {"steps": 2}},
    "robustness": {"examples": 24},
    "corruptions": {"examples": 24, "severities": [1, 5]},
    "explanations": {"examples": 3, "methods": ["saliency", "grad-cam", "lime"]},
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
recipe_settings = { steps = 2 }
[robustness]
examples = 24
[corruptions]
examples = 24
severities = [1, 5]
[explanations]
examples = 3
methods = ["saliency", "grad-cam", "lime"]
[report]
gallery = 3
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
