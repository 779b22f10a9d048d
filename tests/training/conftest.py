"""The toy problem and short settings."""

from __future__ import annotations

import pytest

from audit.config import TrainingConfig
from audit.core.types import Batch
from tests.training.toy import thirds


@pytest.fixture
def examples() -> Batch:
    return thirds(240)


@pytest.fixture
def short() -> TrainingConfig:
    """Three epochs of seven steps, in float32 on every processor."""
    return TrainingConfig(
        epochs=3,
        batch_size=30,
        learning_rate=0.02,
        held_out=0.1,
        probe_examples=24,
        probe_steps=3,
        precision="float32",
    )
