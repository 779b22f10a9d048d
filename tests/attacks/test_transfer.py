"""Attacks made on a surrogate: judged on the model alone, in the ball, and a doubt where they beat the gradients."""

from __future__ import annotations

import pytest
import torch
from attack_models import tiny_net

import audit
from audit.adversarial.batteries import BATTERIES
from audit.adversarial.battery import AttackSpec, Battery
from audit.adversarial.run_battery import run_battery
from audit.attacks.mi_fgsm import mi_fgsm
from audit.core.seeding import Generators
from audit.core.threat import ThreatModel
from audit.core.types import Batch
from audit.models.under_test import ModelUnderTest

TRANSFER = Battery(
    "transfer", "", (AttackSpec("mi-fgsm", {"steps": 5, "to_the_end": True}, "transfer", transferred=True),)
)


@pytest.fixture
def model() -> ModelUnderTest:
    return ModelUnderTest(tiny_net(), classes=tuple("abcd"), input_shape=(1, 12, 12), device="cpu")


@pytest.fixture
def batch(model: ModelUnderTest) -> Batch:
    images = torch.rand(30, 1, 12, 12, generator=torch.Generator().manual_seed(2))
    return Batch(images, model.predictions(images), tuple(f"d{i}" for i in range(30)))


def test_from_the_model_itself_it_is_the_white_box_attack(model: ModelUnderTest, batch: Batch) -> None:
    """The oracle: a perfect surrogate transfers exactly what the attack finds on the model."""
    moved = run_battery(model, batch, "linf", [0.1], battery=TRANSFER, surrogate=model)
    plain = Battery("plain", "", (AttackSpec("mi-fgsm", {"steps": 5, "to_the_end": True}, "transfer"),))
    own = run_battery(model, batch, "linf", [0.1], battery=plain)
    assert torch.equal(moved.robust, own.robust) and 0 < moved.robust.sum() < 30
    assert moved.rows[0].needs == "surrogate"


def test_without_a_surrogate_it_says_so_and_breaks_nothing(model: ModelUnderTest, batch: Batch) -> None:
    found = run_battery(model, batch, "linf", [0.05], battery=TRANSFER)
    assert found.robust.all() and "at least 64 images" in str(found.rows[0].reason)


def test_what_breaks_the_surrogate_alone_is_not_counted(model: ModelUnderTest, cnn_model: ModelUnderTest) -> None:
    images = torch.rand(20, 1, 12, 12, generator=torch.Generator().manual_seed(6))
    batch = Batch(images, model.predictions(images), tuple(f"s{i}" for i in range(20)))
    found = run_battery(model, batch, "linf", [0.03], battery=TRANSFER, surrogate=cnn_model)
    wrong = model.predictions(found.adversarial) != batch.labels
    assert torch.equal(wrong, ~found.robust) and found.rows[0].faults == 0
    assert found.rows[0].passes.backwards == 20 * 5, "the surrogate's passes are counted"


def test_to_the_end_goes_beyond_the_boundary(model: ModelUnderTest, batch: Batch) -> None:
    threat = ThreatModel("linf", 0.05)
    draws = Generators.of(batch.ids, seed=0, purpose="end", device="cpu")
    stopped, gone_on = (mi_fgsm(model, batch, threat, draws, to_the_end=end) for end in (False, True))
    assert threat.distance(gone_on, batch.images).min() > 0.049 > threat.distance(stopped, batch.images).min()


def test_a_transfer_that_beats_the_gradients_is_a_doubt(model: ModelUnderTest, batch: Batch) -> None:
    """A model whose gradient points nowhere useful, and a surrogate that is its honest twin."""
    masked = ModelUnderTest(
        torch.nn.Sequential(_Quantised(), tiny_net()), classes=tuple("abcd"), input_shape=(1, 12, 12), device="cpu"
    )
    both = Battery("both", "", (AttackSpec("fgsm"), *TRANSFER.entries))
    labels = masked.predictions(batch.images)
    found = run_battery(masked, Batch(batch.images, labels, batch.ids), "linf", [0.05], battery=both, surrogate=model)
    assert any("transfer" in str(doubt) for doubt in found.inconclusive)


def test_the_full_battery_teaches_a_surrogate_of_its_own(cnn_model: ModelUnderTest) -> None:
    images = torch.rand(64, 1, 12, 12, generator=torch.Generator().manual_seed(3))
    labels = cnn_model.predictions(images)
    short = Battery("short", "", (*TRANSFER.entries,))
    assert BATTERIES["full"].wants_surrogate and not BATTERIES["standard"].wants_surrogate
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(BATTERIES, "short", short)  # type: ignore[arg-type]
        found = audit.robustness(cnn_model, images, labels, ThreatModel("linf", 0.05), battery="short")
    (row,) = found.attacks
    assert row.tried == 64 and not row.reason and found.passes.backwards > row.passes.backwards


class _Quantised(torch.nn.Module):
    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return (images * 64).round() / 64
