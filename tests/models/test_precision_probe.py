"""The probe of what searches compute in: clearly faster, alike, and float32 in every doubt."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from audit.models import precision_probe
from audit.models.precision import SearchPrecision
from audit.models.precision_probe import quickest_precision
from audit.models.under_test import ModelUnderTest

NET = nn.Sequential(nn.Conv2d(1, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(800, 4))


def wrapped(net: nn.Module = NET) -> ModelUnderTest:
    return ModelUnderTest(net, classes=tuple("abcd"), input_shape=(1, 12, 12), device="cpu")


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> dict[str, float]:
    """A processor with AVX512-BF16, and what a gradient takes on it."""
    taken = {"float32": 1.0, "bfloat16": 0.5}
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: True)
    monkeypatch.setattr(precision_probe, "_seconds", lambda model, noise, precision: taken[precision])
    return taken


@pytest.mark.parametrize(
    ("seconds", "chosen"), [(0.5, "bfloat16"), (0.7, "bfloat16"), (0.75, "float32"), (2, "float32")]
)
def test_it_must_be_clearly_faster(clock: dict[str, float], seconds: float, chosen: SearchPrecision) -> None:
    clock["bfloat16"] = seconds
    assert quickest_precision(wrapped(), 1.0) == chosen


@pytest.mark.usefixtures("clock")
def test_a_processor_without_it_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)
    monkeypatch.setattr(precision_probe, "_gradient", lambda *_: pytest.fail("asked"))
    assert quickest_precision(wrapped(), 1.0) == "float32"


class Cancelling(nn.Module):
    """What is left of it in bfloat16 is noise."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = NET

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.inner(images)
        return (logits * 1e4).sin() if torch.is_autocast_enabled("cpu") else logits


class Refusing(Cancelling):
    def forward(self, images: Tensor) -> Tensor:
        if torch.is_autocast_enabled("cpu"):
            raise RuntimeError("expected scalar type Float but found BFloat16")
        return super().forward(images)


class NoGradients(Cancelling):
    def forward(self, images: Tensor) -> Tensor:
        return super().forward(images.detach())


@pytest.mark.usefixtures("clock")
@pytest.mark.parametrize("kind", [Cancelling, Refusing, NoGradients])
def test_other_gradients_or_none_leave_it_in_float32(kind: type[nn.Module]) -> None:
    assert quickest_precision(wrapped(kind()), 1.0) == "float32"


@pytest.mark.usefixtures("clock")
def test_a_model_that_draws_stays_in_float32() -> None:
    model = wrapped()
    model.module.draws = 2
    assert quickest_precision(model, 1.0) == "float32"


def test_a_large_net_is_timed_on_fewer_images(clock: dict[str, float], monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []

    def seconds(model: ModelUnderTest, noise: Tensor, precision: SearchPrecision) -> float:
        sizes.append(len(noise))
        return clock[precision]

    ticks = iter([0.0, 4.0, 10.0, 99.0])  # eight images took four seconds, and one round more than there is
    monkeypatch.setattr(precision_probe, "_seconds", seconds)
    monkeypatch.setattr(precision_probe.time, "monotonic", lambda: next(ticks))
    assert quickest_precision(wrapped(), 8.0) == "bfloat16"
    assert sizes == [4, 4]


def test_a_card_is_asked_for_both(monkeypatch: pytest.MonkeyPatch, clock: dict[str, float]) -> None:
    asked: list[Any] = []

    def gradient(model: ModelUnderTest, noise: Tensor, precision: SearchPrecision) -> Tensor:
        asked.append(precision)
        return torch.ones(len(noise), 4)

    model = wrapped()
    monkeypatch.setattr(precision_probe, "_gradient", gradient)
    monkeypatch.setattr(precision_probe, "_noise", lambda model: torch.zeros(4, 1, 12, 12))
    monkeypatch.setattr(model, "device", torch.device("cuda"))
    clock["tf32"] = 0.4
    assert quickest_precision(model, 1.0) == "tf32"
    assert asked == ["float32", "tf32", "bfloat16"]
