"""Small models with known answers, shared by all tests."""

from __future__ import annotations

import os
from types import SimpleNamespace

import hypothesis
import pytest
import torch
from torch import Tensor, nn

from audit.core.types import Batch
from audit.models.under_test import ModelUnderTest

# One thread a worker: two workers share the machine, and threads that wait on one another are slower than none.
torch.set_num_threads(1)
os.environ.setdefault("OMP_NUM_THREADS", "1")
# Commands that tests start read compiled modules, as a user's do: compiling the package anew takes a second each.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

# A landing passes or fails by its own change: the same cases every time. HYPOTHESIS_PROFILE=wild draws new ones.
hypothesis.settings.register_profile("same", derandomize=True, deadline=None)
hypothesis.settings.register_profile("wild", derandomize=False, deadline=None)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "same"))


@pytest.fixture
def roomy_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """`audit doctor` answers for the machine it is on; how full this one's disk is must not decide a test."""
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=10**12))


@pytest.fixture(autouse=True)
def global_randomness_untouched() -> None:
    """Tests may not depend on one another through torch's global generator."""
    torch.manual_seed(0)


def linear_net(weight: Tensor, bias: Tensor) -> nn.Sequential:
    """Flatten, then one linear layer: every attack and attribution has a closed form on it."""
    layer = nn.Linear(weight.shape[1], weight.shape[0])
    with torch.no_grad():
        layer.weight.copy_(weight)
        layer.bias.copy_(bias)
    return nn.Sequential(nn.Flatten(), layer)


def small_cnn(classes: int = 4, channels: int = 1) -> nn.Sequential:
    """An untrained CNN with modules alone, for 12x12 images."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(7)
        return nn.Sequential(
            nn.Conv2d(channels, 8, 3),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(8, 12, 3),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(108, classes),
        )


@pytest.fixture
def linear_model() -> ModelUnderTest:
    """Two classes, 6x6 grey images; the boundary w.x + b = 0 goes through the middle of the box."""
    generator = torch.Generator().manual_seed(3)
    weight = torch.randn(36, generator=generator)
    rows = torch.stack([-weight, weight]) / 2
    shift = -(weight * 0.5).sum()
    return ModelUnderTest(
        linear_net(rows, torch.stack([-shift, shift]) / 2), classes=("no", "yes"), input_shape=(1, 6, 6), device="cpu"
    )


@pytest.fixture
def cnn_model() -> ModelUnderTest:
    """An untrained four-class CNN on 12x12 grey images."""
    return ModelUnderTest(small_cnn(), classes=("a", "b", "c", "d"), input_shape=(1, 12, 12), device="cpu")


@pytest.fixture
def cnn_batch(cnn_model: ModelUnderTest) -> Batch:
    """Ten images of noise, labelled as `cnn_model` predicts them."""
    images = torch.rand(10, 1, 12, 12, generator=torch.Generator().manual_seed(11))
    return Batch(images, cnn_model.predictions(images), tuple(f"test/{i:05d}" for i in range(10)))
