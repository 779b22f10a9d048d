"""What trainings compute in: bfloat16 where processor and net gain by it, and judged in float32 all the same."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from audit.config import TrainingConfig
from audit.core.threat import ThreatModel
from audit.core.types import Batch
from audit.training.fit import fit
from audit.training.precision import IN_BFLOAT16, gains_by_bfloat16
from audit.training.validation import Validator
from tests.training.toy import thirds, tiny_net

CPU = torch.device("cpu")
LINF = ThreatModel("linf", 0.1)


class Attention(nn.Module):
    def forward(self, images: Tensor) -> Tensor:
        tokens = images.flatten(2)
        return nn.functional.scaled_dot_product_attention(tokens, tokens, tokens).sum((1, 2))


class Refusing(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = tiny_net()

    def forward(self, images: Tensor) -> Tensor:
        if torch.is_autocast_enabled("cpu"):
            raise RuntimeError("expected scalar type Float but found BFloat16")
        out: Tensor = self.inner(images)
        return out


@pytest.fixture(params=[True, False], ids=["AVX512-BF16", "none"])
def supported(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: request.param)
    return bool(request.param)


@pytest.fixture
def batch() -> Batch:
    return thirds(120)


@pytest.fixture
def settings() -> TrainingConfig:
    return TrainingConfig(epochs=2, batch_size=30, optimizer="adam", learning_rate=1e-2)


@pytest.mark.parametrize(
    ("net", "gains"),
    [
        (nn.Conv2d(4, 8, 3), True),
        (nn.Sequential(nn.Conv2d(4, 8, 3), nn.BatchNorm2d(8), nn.Flatten(), nn.LazyLinear(3)), True),
        (nn.Conv2d(4, 8, 3, groups=4), False),
        (nn.Sequential(nn.Conv2d(4, 4, 1), Attention()), False),
    ],
    ids=["convolution", "norm", "groups", "attention"],
)
def test_processor_and_net_say_what_gains(supported: bool, net: nn.Module, gains: bool) -> None:
    images = torch.rand(2, 4, 6, 6)
    net(images)
    net.eval()

    def passes() -> None:
        net(images).sum().backward()

    assert gains_by_bfloat16(passes, CPU) == (gains and supported)


def test_by_itself_it_trains_so_where_it_gains_and_says_so(
    supported: bool, batch: Batch, settings: TrainingConfig
) -> None:
    net, types = tiny_net(), set()
    next(m for m in net.modules() if isinstance(m, nn.Linear)).register_forward_hook(
        lambda layer, inputs, output: types.add((layer.training, output.dtype))
    )
    trained = fit(net, batch, settings, classes=3, threat=LINF)
    assert ((True, torch.bfloat16) in types) == supported
    assert (False, torch.float32) in types  # held-out images are judged in it
    assert (IN_BFLOAT16 in trained.notes) == supported
    assert {value.dtype for value in trained.weights.values()} == {torch.float32}


def test_accuracy_is_measured_in_float32(
    batch: Batch, settings: TrainingConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[bool] = []
    judge = Validator.__call__

    def watched(self: Validator, net: nn.Module) -> object:
        seen.append(bool(getattr(net, "autocast", True)))
        return judge(self, net)  # type: ignore[arg-type]

    monkeypatch.setattr(Validator, "__call__", watched)
    fit(tiny_net(), batch, settings.model_copy(update={"precision": "bfloat16"}), classes=3, threat=LINF)
    assert seen == [False, False]


@pytest.mark.usefixtures("supported")
def test_a_net_that_does_not_run_so_and_one_told_otherwise_stay_in_float32(
    batch: Batch, settings: TrainingConfig
) -> None:
    refusing = fit(Refusing(), batch, settings, classes=3)
    told = fit(tiny_net(), batch, settings.model_copy(update={"precision": "float32"}), classes=3)
    assert IN_BFLOAT16 not in (*refusing.notes, *told.notes)
    assert all(torch.equal(refusing.weights[f"inner.{name}"], weight) for name, weight in told.weights.items())


def test_the_same_seed_gives_the_same_bytes(supported: bool, batch: Batch, settings: TrainingConfig) -> None:
    first, second = (fit(tiny_net(), batch, settings, classes=3, threat=LINF) for _ in range(2))
    assert all(torch.equal(weight, second.weights[name]) for name, weight in first.weights.items())


@pytest.mark.parametrize("precision", ["bfloat16", "float32"])
def test_a_callers_autocast_around_a_training_changes_no_bit(
    precision: str, batch: Batch, settings: TrainingConfig
) -> None:
    """torch keeps cast weights until the outermost block ends: steps would move weights that no forward looks at."""
    settings = settings.model_copy(update={"precision": precision})
    plain = fit(tiny_net(), batch, settings, classes=3, threat=LINF)
    with torch.autocast("cpu", torch.bfloat16):
        inside = fit(tiny_net(), batch, settings, classes=3, threat=LINF)
    assert all(torch.equal(weight, inside.weights[name]) for name, weight in plain.weights.items())
