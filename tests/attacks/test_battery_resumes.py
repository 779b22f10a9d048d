"""A battery cut off anywhere ends, when asked again, in what it would have ended in: every book, row and pass."""

from __future__ import annotations

import logging
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import torch
from attack_models import tiny_net
from torch import nn

from audit.adversarial.batteries import BATTERIES
from audit.adversarial.battery import AttackSpec, Battery
from audit.adversarial.result import BatteryResult
from audit.adversarial.run_battery import run_battery
from audit.core.errors import Interrupted
from audit.core.types import Batch
from audit.models.under_test import ModelUnderTest
from audit.storage.checkpoint import CellCheckpoint

EPS = (0.01, 0.03, 0.08)
BATTERY = Battery(
    "short",
    "",
    (
        *BATTERIES["quick"].entries,
        AttackSpec("pgd", {"steps": 4}, "closest", hardest_fraction=0.5),
        AttackSpec("mi-fgsm", {"steps": 3, "to_the_end": True}, "transfer", transferred=True),
    ),
    refine_steps=3,
)
RUNS = len(EPS) * 5 + 1


class Stopped(Exception):
    pass


@pytest.fixture
def batch(cnn_model: ModelUnderTest) -> Batch:
    images = torch.rand(24, 1, 12, 12, generator=torch.Generator().manual_seed(1))
    labels = cnn_model.predictions(images)
    labels[:3] = (labels[:3] + 1) % 4
    return Batch(images, labels, tuple(f"n{i}" for i in range(24)))


@pytest.fixture
def surrogate() -> ModelUnderTest:
    return ModelUnderTest(tiny_net(), classes=tuple("abcd"), input_shape=(1, 12, 12), device="cpu")


def attacked(model: ModelUnderTest, batch: Batch, **more: Any) -> BatteryResult:
    return run_battery(model, batch, "linf", EPS, battery=BATTERY, seed=5, headline=0.03, **more)


def same(first: BatteryResult, second: BatteryResult) -> None:
    for field in fields(BatteryResult):
        one, other = getattr(first, field.name), getattr(second, field.name)
        assert torch.equal(one, other) if isinstance(one, torch.Tensor) else one == other, field.name


@pytest.mark.parametrize("after", [0, 1, 7, RUNS - 1])
def test_stopped_and_asked_again(
    after: int, cnn_model: ModelUnderTest, surrogate: ModelUnderTest, batch: Batch, tmp_path: Path
) -> None:
    asked: list[int] = []
    cnn_model.net.register_forward_hook(lambda net, inputs, output: asked.append(len(output)))
    whole = attacked(cnn_model, batch, surrogate=surrogate)
    asked.clear()  # the first also chooses a layout
    attacked(cnn_model, batch, surrogate=surrogate)
    whole_run = len(asked)
    place, seen = tmp_path / "unfinished.safetensors", []
    with pytest.raises(Interrupted):
        attacked(
            cnn_model,
            batch,
            surrogate=surrogate,
            unfinished=CellCheckpoint(place),
            progress=lambda done, total: seen.append((done, total)),
            stopping=lambda: len(seen) == after,
        )
    assert seen == [(done, RUNS) for done in range(1, after + 1)] and place.exists()
    stopped_run = len(asked)
    again = attacked(cnn_model, batch, surrogate=surrogate, unfinished=CellCheckpoint(place))
    same(again, whole)
    assert len(whole.rows) == RUNS
    assert (sum(asked[stopped_run:]) < sum(asked[:whole_run])) == (after > 0)


def test_killed_and_asked_again(
    cnn_model: ModelUnderTest, batch: Batch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("audit.storage.checkpoint.SAVE_INTERVAL_SECONDS", 0.0)
    whole, place = attacked(cnn_model, batch), tmp_path / "unfinished.safetensors"

    def killed(done: int, total: int) -> None:
        if done % 4 == 3:
            raise Stopped

    for _ in range(4):
        with pytest.raises(Stopped):
            attacked(cnn_model, batch, unfinished=CellCheckpoint(place), progress=killed)
    same(attacked(cnn_model, batch, unfinished=CellCheckpoint(place)), whole)


def test_what_is_damaged_is_begun_anew(
    cnn_model: ModelUnderTest, batch: Batch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    place = tmp_path / "unfinished.safetensors"
    with pytest.raises(Interrupted):
        attacked(cnn_model, batch, unfinished=CellCheckpoint(place), stopping=lambda: True)
    body = bytearray(place.read_bytes())
    body[-3] ^= 1
    place.write_bytes(body)
    with caplog.at_level(logging.WARNING, logger="audit"):
        resumed = attacked(cnn_model, batch, unfinished=CellCheckpoint(place))
    assert "is damaged" in caplog.text and not place.exists()
    same(resumed, attacked(cnn_model, batch))


def test_a_short_battery_writes_nothing(cnn_model: ModelUnderTest, batch: Batch, tmp_path: Path) -> None:
    attacked(cnn_model, batch, unfinished=CellCheckpoint(tmp_path / "unfinished.safetensors"))
    assert list(tmp_path.glob("*.safetensors")) == []


def test_a_random_model_begins_anew(batch: Batch, tmp_path: Path) -> None:
    class Noisy(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = tiny_net()

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            logits: torch.Tensor = self.net(images)
            return logits + 0.01 * torch.randn_like(logits)

    model = ModelUnderTest(Noisy(), classes=tuple("abcd"), input_shape=(1, 12, 12), device="cpu")
    place = tmp_path / "unfinished.safetensors"
    with pytest.raises(Interrupted):
        attacked(model, batch, unfinished=CellCheckpoint(place), stopping=lambda: True)
    assert not place.exists()
