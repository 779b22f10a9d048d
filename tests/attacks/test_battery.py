"""The sweep, the books and the doubts."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from attack_models import tiny_net
from torch import Tensor, nn

from audit.adversarial.attack_result import AttackResult
from audit.adversarial.batteries import BATTERIES
from audit.adversarial.battery import AttackSpec, Battery
from audit.adversarial.row_flags import row_flags
from audit.adversarial.run_battery import run_battery
from audit.core.errors import DataError, Interrupted, UsageError
from audit.core.threat import ThreatModel
from audit.core.types import Batch
from audit.models.under_test import ModelUnderTest

EPS = (0.01, 0.03, 0.08)


@pytest.fixture
def noise_batch(cnn_model: ModelUnderTest) -> Batch:
    images = torch.rand(24, 1, 12, 12, generator=torch.Generator().manual_seed(1))
    labels = cnn_model.predictions(images)
    labels[:3] = (labels[:3] + 1) % 4
    return Batch(images, labels, tuple(f"n{i}" for i in range(24)))


def test_the_sweep_finds_what_each_eps_alone_finds(cnn_model: ModelUnderTest, noise_batch: Batch) -> None:
    """The slow twin: every eps from scratch. The sweep may find more at a larger eps, never less."""
    swept = run_battery(cnn_model, noise_batch, "linf", EPS)
    for row, eps in enumerate(EPS):
        alone = run_battery(cnn_model, noise_batch, "linf", [eps])
        assert not (swept.survived[row] & ~alone.robust).any()
    assert torch.equal(swept.survived[0], run_battery(cnn_model, noise_batch, "linf", EPS[:1]).robust)


def test_a_battery_without_its_sanity_checks_gives_the_same_answer_for_less(
    cnn_model: ModelUnderTest, noise_batch: Batch
) -> None:
    """What a later cell of the same images' order runs; of a model without a gradient it says so all the same."""
    checked, spared = (run_battery(cnn_model, noise_batch, "linf", EPS, sanity_checks=on) for on in (True, False))
    assert torch.equal(checked.survived, spared.survived) and checked.attacks == spared.attacks
    assert [row.broke for row in checked.rows] == [row.broke for row in spared.rows]
    assert spared.passes.backwards < checked.passes.backwards
    assert spared.passes.forwards < checked.passes.forwards
    blind = ModelUnderTest(_Detached(), classes=cnn_model.classes, input_shape=cnn_model.input_shape)
    refused = run_battery(blind, noise_batch, "linf", EPS[:1], battery="apgd-ce", sanity_checks=False)
    assert "no gradient" in str(refused.rows[0].reason) and refused.rows[0].tried == 0


class _Detached(nn.Module):
    """A model whose logits do not depend on its input through autograd."""

    def forward(self, images: Tensor) -> Tensor:
        return images.detach().flatten(1)[:, :4].contiguous()


def test_broken_at_a_small_eps_is_broken_at_every_larger_one(cnn_model: ModelUnderTest, noise_batch: Batch) -> None:
    outcome = run_battery(cnn_model, noise_batch, "l2", [0.1, 0.3, 0.9])
    assert (outcome.survived[:-1] >= outcome.survived[1:]).all()
    assert 0 < outcome.survived[0].sum() and outcome.survived[-1].sum() < outcome.survived[0].sum()


def test_misclassified_images_are_broken_by_clean(cnn_model: ModelUnderTest, noise_batch: Batch) -> None:
    outcome = run_battery(cnn_model, noise_batch, "linf", [0.0, 0.01])
    assert outcome.broken_by[:3] == ("clean",) * 3 and (outcome.minimal_eps[:3] == 0).all()
    assert outcome.survived[0].tolist() == [False] * 3 + [True] * 21, "eps 0 breaks nothing that was right"


def test_adversarial_images_are_what_they_claim(cnn_model: ModelUnderTest, noise_batch: Batch) -> None:
    outcome = run_battery(cnn_model, noise_batch, "linf", EPS, headline=0.03)
    wrong = cnn_model.predictions(outcome.adversarial) != noise_batch.labels
    assert torch.equal(wrong, ~outcome.robust)
    threat = ThreatModel("linf", 0.03)
    assert threat.allows(outcome.adversarial, noise_batch.images).all()
    unbroken = outcome.robust
    assert torch.equal(outcome.adversarial[unbroken], noise_batch.images[unbroken])
    found = ~unbroken
    distance = threat.distance(outcome.adversarial, noise_batch.images)
    assert torch.allclose(distance[found], outcome.minimal_eps[found])


def test_who_broke_it_and_whether_it_is_broken_agree(cnn_model: ModelUnderTest, noise_batch: Batch) -> None:
    outcome = run_battery(cnn_model, noise_batch, "linf", EPS)
    assert torch.equal(outcome.first_broken_by >= 0, ~outcome.survived)
    assert set(outcome.broken_by) - {None} <= set(outcome.attacks)


def test_rows_account_for_every_pass_of_the_attacks(cnn_model: ModelUnderTest, noise_batch: Batch) -> None:
    outcome = run_battery(cnn_model, noise_batch, "linf", EPS)
    attacks = sum(row.passes.backwards for row in outcome.rows)
    assert 0 < attacks <= outcome.passes.backwards
    assert all(row.tried <= row.survivors and row.broke <= row.tried and row.faults == 0 for row in outcome.rows)


def test_a_second_run_gives_the_same_bytes(cnn_model: ModelUnderTest, noise_batch: Batch) -> None:
    first, second = (run_battery(cnn_model, noise_batch, "linf", EPS, seed=5) for _ in range(2))
    assert torch.equal(first.nearest, second.nearest) and torch.equal(first.minimal_eps, second.minimal_eps)
    assert first.rows == second.rows


def test_shrinking_sharpens_the_distance_and_keeps_the_success(cnn_model: ModelUnderTest, noise_batch: Batch) -> None:
    plain = run_battery(cnn_model, noise_batch, "linf", EPS)
    sharp = run_battery(cnn_model, noise_batch, "linf", EPS, battery=replace(BATTERIES["quick"], refine_steps=6))
    assert (sharp.minimal_eps <= plain.minimal_eps + 1e-7).all()
    assert (sharp.minimal_eps < plain.minimal_eps - 1e-4).any()
    assert (cnn_model.predictions(sharp.nearest) != noise_batch.labels)[sharp.minimal_eps.isfinite()].all()


def test_a_target_mask_counts_only_its_classes(cnn_model: ModelUnderTest, noise_batch: Batch) -> None:
    only = torch.zeros(24, 4, dtype=torch.bool).scatter_(1, ((noise_batch.labels + 2) % 4)[:, None], True)
    outcome = run_battery(cnn_model, replace(noise_batch, adversarial_classes=only), "linf", EPS)
    reached = cnn_model.predictions(outcome.adversarial)
    assert torch.equal((reached == (noise_batch.labels + 2) % 4), ~outcome.robust)
    assert outcome.robust.sum() > run_battery(cnn_model, noise_batch, "linf", EPS).robust.sum()


def test_an_attack_that_leaves_the_ball_is_reported_and_gains_nothing(
    cnn_model: ModelUnderTest, noise_batch: Batch, monkeypatch: pytest.MonkeyPatch
) -> None:
    cheat = Battery("cheat", "", (AttackSpec("fgsm"),))
    monkeypatch.setattr("audit.core.ascent.steepest_ascent", lambda norm, gradient, *rest: 50 * gradient.sign())
    monkeypatch.setattr(ThreatModel, "project", lambda self, images, origin: images.clamp(0, 1), raising=True)
    with monkeypatch.context() as honest:
        honest.setattr(
            "audit.adversarial.verify.brought_back",
            lambda given, origin, threat: (origin, torch.ones(len(origin), dtype=torch.bool)),
        )
        outcome = run_battery(cnn_model, noise_batch, "linf", [0.01], battery=cheat)
    assert outcome.rows[0].faults == outcome.rows[0].tried > 0
    assert outcome.robust.sum() == 21


def test_stopping_interrupts_between_attacks(cnn_model: ModelUnderTest, noise_batch: Batch) -> None:
    seen: list[tuple[int, int]] = []
    with pytest.raises(Interrupted):
        run_battery(
            cnn_model,
            noise_batch,
            "linf",
            EPS,
            progress=lambda done, total: seen.append((done, total)),
            stopping=lambda: len(seen) == 2,
        )
    assert [done for done, _ in seen] == [1, 2]


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"images": torch.rand(24, 1, 12, 12) * 255}, r"outside \[0, 1\]"),
        ({"labels": torch.full((24,), 4)}, "Labels must be between 0 and 3"),
        ({"adversarial_classes": torch.ones(24, 4, dtype=torch.bool)}, "equals the image's own label"),
        ({"adversarial_classes": torch.ones(24, 3, dtype=torch.bool)}, "shape"),
    ],
)
def test_bad_input_is_a_sentence(
    cnn_model: ModelUnderTest, noise_batch: Batch, change: dict[str, Tensor], sentence: str
) -> None:
    with pytest.raises(DataError, match=sentence):
        run_battery(cnn_model, replace(noise_batch, **change), "linf", [0.1])


def test_a_wrong_eps_norm_or_battery_is_a_sentence(cnn_model: ModelUnderTest, noise_batch: Batch) -> None:
    with pytest.raises(UsageError, match="8/255, not 8"):
        run_battery(cnn_model, noise_batch, "linf", [8])
    with pytest.raises(UsageError, match="Known: l0, l1, l2, linf"):
        run_battery(cnn_model, noise_batch, "linff", [0.1])  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="quick"):
        run_battery(cnn_model, noise_batch, "linf", [0.1], battery="quik")
    with pytest.raises(UsageError, match="headline"):
        run_battery(cnn_model, noise_batch, "linf", [0.1], headline=0.2)
    with pytest.raises(UsageError, match="No eps"):
        run_battery(cnn_model, noise_batch, "linf", [])


class Wobbling(nn.Module):
    def forward(self, logits: Tensor) -> Tensor:
        return logits + torch.randn_like(logits)


class Detached(nn.Module):
    def forward(self, images: Tensor) -> Tensor:
        return images.detach()


class Scaled(nn.Module):
    def forward(self, logits: Tensor) -> Tensor:
        return logits * 30000


class Quantised(nn.Module):
    def forward(self, images: Tensor) -> Tensor:
        return (images * 16).round() / 16


@pytest.mark.parametrize(
    ("first", "last", "reason"),
    [
        (None, Wobbling(), "different logits"),
        (Detached(), None, "no gradient to follow"),
        (None, Scaled(), "cross-entropy are zero"),
        (Quantised(), None, "margin are zero"),
    ],
)
def test_a_model_that_hides_its_gradients_is_called_inconclusive(
    noise_batch: Batch, first: nn.Module | None, last: nn.Module | None, reason: str
) -> None:
    parts = [part for part in (first, tiny_net(), last) if part is not None]
    model = ModelUnderTest(nn.Sequential(*parts), classes=tuple("abcd"), input_shape=(1, 12, 12), device="cpu")
    batch = replace(noise_batch, labels=model.predictions(noise_batch.images))
    outcome = run_battery(model, batch, "linf", [0.01])
    assert any(reason in str(sentence) for sentence in outcome.inconclusive), outcome.inconclusive


def test_an_honest_model_raises_no_doubt(cnn_model: ModelUnderTest, noise_batch: Batch) -> None:
    for norm, eps in (("linf", 0.03), ("l2", 0.3), ("l1", 2.0)):
        assert run_battery(cnn_model, noise_batch, norm, [eps]).inconclusive == ()


def test_a_blind_attack_that_beats_the_guided_ones_is_a_doubt() -> None:
    guided = AttackResult(name="pgd", attack="pgd", needs="gradients", survivors=100, tried=100, broke=20)
    blind = AttackResult(name="square", attack="square", needs="scores", survivors=80, tried=40, broke=4)
    (flag,) = row_flags([([guided, blind], 100)])
    assert "square" in str(flag.sentence) and "8.0 points" in str(flag.sentence) and flag.limit < flag.value
    assert row_flags([([guided, blind.model_copy(update={"broke": 1})], 1000)]) == ()


def test_two_classes_with_dlr_say_so(linear_model: ModelUnderTest) -> None:
    images = torch.rand(6, 1, 6, 6, generator=torch.Generator().manual_seed(0))
    batch = Batch(images, linear_model.predictions(images), tuple("abcdef"))
    battery = Battery("dlr", "", (AttackSpec("pgd", {"loss": "dlr", "steps": 5}),))
    outcome = run_battery(linear_model, batch, "linf", [0.3], battery=battery)
    assert any("DLR" in str(note) for note in outcome.notes) and not outcome.robust.all()


def test_pieces_change_nothing_but_the_memory(
    cnn_model: ModelUnderTest, noise_batch: Batch, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = run_battery(cnn_model, noise_batch, "linf", EPS)
    monkeypatch.setattr("audit.adversarial.battery_run.WINDOWS", 1)
    monkeypatch.setattr("audit.adversarial.battery_run.PIXELS", 1)
    monkeypatch.setattr("audit.adversarial.battery_job.tune_execution", lambda model: None)
    cnn_model.layout.batch_size = 5
    pieces = run_battery(cnn_model, noise_batch, "linf", EPS)
    assert torch.equal(pieces.survived, whole.survived)
    assert torch.equal(pieces.first_broken_by, whole.first_broken_by)
    assert [row.passes for row in pieces.rows] == [row.passes for row in whole.rows]
    assert torch.allclose(pieces.minimal_eps, whole.minimal_eps, atol=1e-5)


def test_measuring_in_rows_gives_every_distance() -> None:
    threat, origin = ThreatModel("l2", 1.0), torch.zeros(600, 1, 2, 2)
    sizes = torch.arange(600) / 1200
    assert torch.allclose(threat.distance(origin + sizes.view(-1, 1, 1, 1), origin), 2 * sizes.double())
    assert threat.distance(origin[:0], origin[:0]).shape == (0,)
