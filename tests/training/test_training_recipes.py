"""Recipes make examples the threat model allows, and what they descend is what their papers say."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from audit.config import TrainingConfig
from audit.core.ascent import projected_step
from audit.core.errors import Interrupted, UsageError
from audit.core.registry import find, methods
from audit.core.seeding import Generators
from audit.core.threat import Norm, ThreatModel
from audit.core.types import Batch
from audit.training import loop
from audit.training.callbacks import TrainingCallbacks
from audit.training.fit import fit
from audit.training.inner_attack import initial_perturbation
from audit.training.step import StepOutput, TrainingStep
from audit.training.validation import count_under_pgd
from tests.training.toy import thirds, tiny_net

THREATS = [ThreatModel("linf", 0.08), ThreatModel("l2", 0.6), ThreatModel("l1", 3.0)]
OF_CLASSIFIERS = [method.name for method in methods("recipe") if method.facts.get("task") != "detection"]
ADVERSARIAL = [
    method.name for method in methods("recipe") if method.facts["adversarial"] and method.name in OF_CLASSIFIERS
]
ATTACKING = [name for name in ADVERSARIAL if not find("recipe", name).facts.get("proves")]


class Watched(nn.Module):
    """Remembers every image it was shown while its weights could learn from it."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net
        self.seen: list[Tensor] = []

    def forward(self, images: Tensor) -> Tensor:
        if torch.is_grad_enabled() and next(self.net.parameters()).requires_grad:
            self.seen.append(images.detach().clone())
        logits: Tensor = self.net(images)
        return logits


def step_of(batch: Batch, threat: ThreatModel | None) -> TrainingStep:
    generators = Generators.of(batch.ids, seed=0, purpose="test", device="cpu")
    teacher = tiny_net(seed=3).eval()

    def loss(logits: Tensor, labels: Tensor) -> Tensor:
        return cross_entropy(logits, labels, reduction="none")

    return TrainingStep(
        batch.images, batch.labels, generators, loss, threat, {}, torch.arange(len(batch)), len(batch), teacher
    )


def outcomes(recipe: str, net: nn.Module, step: TrainingStep, **settings: Any) -> list[StepOutput]:
    """What every objective of the recipe gives, back-propagated but with no step taken."""
    outputs = []
    for objective in find("recipe", recipe).function(net, step, **settings):
        outcome = objective()
        outcome.loss.backward()
        outputs.append(outcome)
    return outputs


def trained_net() -> nn.Sequential:
    net = tiny_net()
    settings = TrainingConfig(epochs=10, batch_size=30, learning_rate=0.03)
    net.load_state_dict(fit(net, thirds(240), settings, classes=3, mean=0.0, std=1.0).weights)
    return net


@pytest.mark.parametrize("threat", THREATS, ids=str)
@pytest.mark.parametrize("recipe", ADVERSARIAL)
def test_every_image_learnt_from_lies_in_the_ball_and_the_box(recipe: str, threat: ThreatModel) -> None:
    batch = thirds(12)
    images = batch.images.clone()
    images[:4] = images[:4].round()
    net = Watched(tiny_net())
    outcomes(recipe, net, step_of(Batch(images, batch.labels, batch.ids), threat))
    assert net.seen
    for images_seen in net.seen:
        for chunk in images_seen.split(12):
            assert bool(threat.allows(chunk, images).all())


@pytest.mark.parametrize("recipe", ATTACKING)
def test_adversarial_images_are_harder_than_clean_ones(recipe: str) -> None:
    net, batch = Watched(trained_net().eval()), thirds(60, seed=5)
    outcomes(recipe, net, step_of(batch, ThreatModel("linf", 0.1)))
    hardest = net.seen[-1][-60:]
    with torch.no_grad():
        clean, attacked = (cross_entropy(net(x), batch.labels).item() for x in (batch.images, hardest))
    assert attacked > 1.5 * clean


@pytest.mark.parametrize("recipe", OF_CLASSIFIERS)
def test_making_the_examples_leaves_flags_as_they_were_and_gives_every_weight_a_gradient(recipe: str) -> None:
    net = tiny_net(norm=True).train()
    net[1].eval()
    outcomes(recipe, net, step_of(thirds(12), ThreatModel("linf", 0.1)))
    assert net.training and not net[1].training and net[0].training
    assert all(p.requires_grad and p.grad is not None and p.grad.abs().sum() > 0 for p in net.parameters())


@pytest.mark.parametrize("recipe", ADVERSARIAL)
def test_the_examples_of_an_image_do_not_depend_on_its_batch(recipe: str) -> None:
    batch, threat = thirds(12), ThreatModel("linf", 0.1)
    whole, alone = Watched(tiny_net()), Watched(tiny_net())
    outcomes(recipe, whole, step_of(batch, threat))
    outcomes(recipe, alone, step_of(batch.select(torch.arange(4, 8)), threat))
    for big, small in zip(whole.seen, alone.seen, strict=True):
        assert torch.allclose(big[4:8], small[:4], atol=1e-6)


def test_pgd_is_its_slow_twin() -> None:
    net, batch, threat = tiny_net(), thirds(6), ThreatModel("linf", 0.1)
    step = step_of(batch, threat)
    (outcome,) = outcomes("pgd", net, step, steps=3, relative_step=0.5)
    images = threat.random_start(batch.images, step.generators)
    for _ in range(3):
        rows = []
        for i in range(6):
            leaf = images[i : i + 1].clone().requires_grad_(True)
            cross_entropy(net(leaf), batch.labels[i : i + 1]).backward()
            assert leaf.grad is not None
            moved = leaf.detach() + 0.05 * leaf.grad.sign()
            low, high = batch.images[i : i + 1] - 0.1, batch.images[i : i + 1] + 0.1
            rows.append(torch.minimum(torch.maximum(moved, low), high).clamp(0, 1))
        images = torch.cat(rows)
    assert outcome.loss.item() == pytest.approx(cross_entropy(net(images), batch.labels).item(), rel=1e-5)


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_pgd_in_a_larger_ball_is_pgd_of_that_size(norm: Norm) -> None:
    batch, start = thirds(12), {"start": "previous", "steps": 2}
    made = []
    for eps, relative in ((0.2, 1.5), (0.3, 1.0)):
        net, state = Watched(tiny_net()), {}
        for _ in range(2):  # the second goes on from where the first ended, beyond eps
            step = replace(step_of(batch, ThreatModel(norm, eps)), recipe_state=state)
            outcomes("pgd", net, step, relative_eps=relative, **start)
        made.append(net.seen[-1])
    assert torch.equal(*made)
    assert float(ThreatModel(norm, 0.2).distance(made[0], batch.images).max()) > 0.25


def test_a_larger_linf_ball_ends_at_all_images() -> None:
    batch = thirds(6)
    (outcome,) = outcomes("pgd", tiny_net(), step_of(batch, ThreatModel("linf", 1.0)), relative_eps=1.1)
    assert torch.isfinite(outcome.loss)


def test_without_the_clip_the_step_leaves_the_ball_but_not_the_box() -> None:
    batch, threat = thirds(6), ThreatModel("linf", 0.1)
    reach = []
    for clip in (True, False):
        net = Watched(tiny_net())
        outcomes("fgsm-rs", net, step_of(batch, threat), clip=clip)
        made = net.seen[-1]
        assert made.min() >= 0 and made.max() <= 1
        reach.append(float((made - batch.images).abs().max()))
    assert reach[0] <= 0.1 + 1e-6 < reach[1] <= 0.225 + 1e-6


@pytest.mark.parametrize("recipe", ["fgsm-rs", "pgd"])
@pytest.mark.parametrize("threat", THREATS, ids=str)
def test_the_previous_start_is_where_the_last_step_ended_whatever_the_batch(threat: ThreatModel, recipe: str) -> None:
    batch, net = thirds(12), Watched(tiny_net())
    step = step_of(batch, threat)
    one_step = {"steps": 1} if recipe == "pgd" else {"reused_step": 0.0}
    settings: dict[str, Any] = {"relative_step": 0.5, "start": "previous", **one_step}
    outcomes(recipe, net, step, **settings)
    first = net.seen[-1]
    order = torch.tensor([7, 2, 11, 0])
    mixed = replace(
        step, images=batch.images[order], labels=batch.labels[order], indices=order,
        generators=step.generators.select(order),
    )  # fmt: skip
    outcomes(recipe, net, mixed, **settings)
    leaf = first[order].clone().requires_grad_(True)
    cross_entropy(net.net(leaf), batch.labels[order], reduction="sum").backward()
    assert leaf.grad is not None
    expected = projected_step(
        first[order], batch.images[order], leaf.grad, threat, 0.5 * threat.eps, direction="unconstrained"
    )
    assert torch.allclose(net.seen[-1], expected, atol=2e-4)  # float16 holds 0.1 to 5e-5


@pytest.mark.parametrize("threat", THREATS, ids=str)
def test_a_reused_step_moves_the_next_start_by_the_gradient_of_the_images_learnt_from(threat: ThreatModel) -> None:
    batch, net = thirds(12), Watched(tiny_net())
    step = step_of(batch, threat)
    outcomes("fgsm-rs", net, step, start="previous", reused_step=0.5)
    (learnt,) = net.seen
    leaf = learnt.clone().requires_grad_(True)
    cross_entropy(net.net(leaf), batch.labels).backward()
    assert leaf.grad is not None
    expected = projected_step(
        leaf.detach(), batch.images, leaf.grad, threat, 0.5 * threat.eps, direction="unconstrained"
    )
    assert not torch.allclose(expected, learnt, atol=threat.eps / 1000)
    # float16 holds 11 bits.
    assert torch.allclose(initial_perturbation(step, "previous"), expected, atol=threat.eps / 1000)


@pytest.mark.parametrize("recipe", ["fgsm-rs"])
def test_the_start_is_the_previous_one_by_itself_unless_images_are_augmented(
    monkeypatch: pytest.MonkeyPatch, short: TrainingConfig, examples: Batch, recipe: str
) -> None:
    stored: list[bool] = []
    close = loop._close_epoch

    def noted(setup: Any, state: Any, started: float) -> None:
        stored.append("perturbations" in state.recipe_states[0])
        close(setup, state, started)

    monkeypatch.setattr(loop, "_close_epoch", noted)
    for augmentation in ("none", "jitter"):
        changes = {"recipe": recipe, "augmentation": augmentation, "epochs": 1}
        settings = TrainingConfig.model_validate(short.model_dump() | changes)
        fit(tiny_net(), examples, settings, classes=3, threat=ThreatModel("linf", 0.1))
    assert stored == [True, False]


def test_an_image_not_seen_before_starts_at_random() -> None:
    batch, threat = thirds(12), ThreatModel("linf", 0.1)
    step = step_of(batch, threat)
    part = torch.arange(6)
    half = replace(
        step, images=batch.images[:6], labels=batch.labels[:6], indices=part,
        generators=step.generators.select(part),
    )  # fmt: skip
    outcomes("fgsm-rs", tiny_net(), half, start="previous")
    points = initial_perturbation(step, "previous")
    assert torch.equal(points[6:], threat.random_start(batch.images, step.generators)[6:])
    assert not torch.equal(points[:6], threat.random_start(batch.images, step.generators)[:6])


def test_a_previous_start_and_augmentation_do_not_go_together(short: TrainingConfig, examples: Batch) -> None:
    changes = {"recipe": "fgsm-rs", "recipe_settings": {"start": "previous"}, "augmentation": "crop-flip"}
    settings = TrainingConfig.model_validate(short.model_dump() | changes)
    with pytest.raises(UsageError, match="set augmentation to none"):
        fit(tiny_net(), examples, settings, classes=3, threat=ThreatModel("linf", 0.1))


def test_a_collapse_puts_the_best_weights_back_and_goes_on_with_pgd(
    monkeypatch: pytest.MonkeyPatch, short: TrainingConfig, examples: Batch
) -> None:
    rows = iter([0.6, 0.5, 0.4, 0.55, 0.2])
    weights: list[Mapping[str, Tensor]] = []
    net = tiny_net()

    def validate(setup: Any, state: Any) -> dict[str, Any]:
        weights.append({name: value.clone() for name, value in net.state_dict().items()})
        return {"epoch": state.epoch + 1, "recipe": state.recipe, "clean_accuracy": 0.7, "robust_accuracy": next(rows)}

    after: list[Mapping[str, Tensor]] = []
    monkeypatch.setattr(loop, "_validate", validate)
    callbacks = TrainingCallbacks(
        on_epoch=lambda history: after.append({n: v.clone() for n, v in net.state_dict().items()})
    )
    settings = short.model_copy(update={"recipe": "fgsm-rs", "epochs": 5})
    trained = fit(net, examples, settings, classes=3, threat=ThreatModel("linf", 0.1), callbacks=callbacks)
    assert [row["recipe"] for row in trained.history] == ["fgsm-rs"] * 3 + ["pgd"] * 2
    assert all(torch.equal(after[2][name], weights[0][name]) for name in weights[0])
    assert not all(torch.equal(after[1][name], weights[0][name]) for name in weights[0])
    assert len(trained.notes) == 1 and "epoch 3" in str(trained.notes[0]) and "60% to 40%" in str(trained.notes[0])


def test_what_is_said_of_a_collapse_survives_a_stop(
    monkeypatch: pytest.MonkeyPatch, short: TrainingConfig, examples: Batch, tmp_path: Path
) -> None:
    rows = iter([0.6, 0.1, 0.2])

    def validate(setup: Any, state: Any) -> dict[str, Any]:
        return {"epoch": state.epoch + 1, "recipe": state.recipe, "clean_accuracy": 0.7, "robust_accuracy": next(rows)}

    monkeypatch.setattr(loop, "_validate", validate)
    settings, history = short.model_copy(update={"recipe": "fgsm-rs", "epochs": 3}), []
    stop = TrainingCallbacks(tmp_path, stopping=lambda: len(history) == 2, on_epoch=lambda rows: history.append(rows))
    threat = ThreatModel("linf", 0.1)
    with pytest.raises(Interrupted):
        fit(tiny_net(), examples, settings, classes=3, threat=threat, callbacks=stop)
    resumed = fit(tiny_net(), examples, settings, classes=3, threat=threat, callbacks=TrainingCallbacks(tmp_path))
    assert [(note.key, note.values["epoch"]) for note in resumed.notes] == [("training_overfitting", 2)]


def test_after_a_collapse_the_average_of_weights_starts_from_the_best_ones_too(
    monkeypatch: pytest.MonkeyPatch, short: TrainingConfig, examples: Batch
) -> None:
    rows, averages = iter([0.6, 0.1]), []

    def validate(setup: Any, state: Any) -> dict[str, Any]:
        averages.append(state.ema)
        return {"epoch": state.epoch + 1, "recipe": state.recipe, "clean_accuracy": 0.7, "robust_accuracy": next(rows)}

    monkeypatch.setattr(loop, "_validate", validate)
    settings = short.model_copy(update={"recipe": "fgsm-rs", "epochs": 2, "averaging": 0.9})
    trained = fit(tiny_net(), examples, settings, classes=3, threat=ThreatModel("linf", 0.1))
    assert averages[-1].steps == 0
    assert all(torch.equal(averages[-1].weights[name], value) for name, value in trained.weights.items())


@pytest.fixture(scope="module")
def standard_robustness() -> float:
    return robustness_of("standard")


@pytest.mark.parametrize("recipe", ADVERSARIAL)
def test_hardening_makes_a_net_harder_to_fool(recipe: str, standard_robustness: float) -> None:
    assert robustness_of(recipe) > standard_robustness + 0.1


def robustness_of(recipe: str) -> float:
    """The robust accuracy on new examples of the toy net trained by `recipe`."""
    net, threat, batch = tiny_net(), ThreatModel("linf", 0.15), thirds(120, seed=9)
    settings = TrainingConfig(recipe=recipe, epochs=10, batch_size=30, learning_rate=0.03, probe_examples=24)
    trained = fit(net, thirds(240), settings, classes=3, threat=threat, mean=0.0, std=1.0)
    net.load_state_dict(trained.weights)
    robust = count_under_pgd(net, batch, threat, lambda z, y: cross_entropy(z, y, reduction="none"), seed=1, steps=20)
    return robust / len(batch)


def log_softmax_rows(logits: Tensor) -> list[list[float]]:
    return [[float(v - torch.logsumexp(row.double(), 0)) for v in row.double()] for row in logits]


def test_trades_descends_the_loss_of_its_paper() -> None:
    net, batch = Watched(tiny_net()), thirds(6)
    (outcome,) = outcomes("trades", net, step_of(batch, ThreatModel("linf", 0.1)), beta=3.0)
    with torch.no_grad():
        clean, attacked = (log_softmax_rows(net.net(images)) for images in (batch.images, net.seen[-1]))
    expected = 0.0
    for p, q, label in zip(clean, attacked, batch.labels.tolist(), strict=True):
        expected += -p[label] + 3.0 * sum(math.exp(a) * (a - b) for a, b in zip(p, q, strict=True))
    assert outcome.loss.item() == pytest.approx(expected / 6, rel=1e-4)


def test_mart_descends_the_loss_of_its_paper() -> None:
    net, batch = Watched(tiny_net()), thirds(6)
    (outcome,) = outcomes("mart", net, step_of(batch, ThreatModel("linf", 0.1)), weight=2.0)
    with torch.no_grad():
        clean, attacked = (log_softmax_rows(net.net(images)) for images in (batch.images, net.seen[-1]))
    expected = 0.0
    for p, q, label in zip(clean, attacked, batch.labels.tolist(), strict=True):
        rival = max(math.exp(v) for k, v in enumerate(q) if k != label)
        divergence = sum(math.exp(a) * (a - b) for a, b in zip(p, q, strict=True))
        expected += -q[label] - math.log(1 - rival) + 2.0 * divergence * (1 - math.exp(p[label]))
    assert outcome.loss.item() == pytest.approx(expected / 6, rel=1e-4)


def test_free_moves_images_by_the_gradient_of_the_step_and_carries_the_perturbation_on() -> None:
    net, batch, threat = Watched(tiny_net()), thirds(6), ThreatModel("linf", 0.1)
    step = step_of(batch, threat)
    assert len(outcomes("free", net, step, replays=3, relative_step=0.5)) == 3
    for before, after in zip(net.seen[:2], net.seen[1:], strict=False):
        leaf = before.clone().requires_grad_(True)
        cross_entropy(net.net(leaf), batch.labels).backward()
        assert leaf.grad is not None
        assert torch.allclose(after, threat.project(before + 0.05 * leaf.grad.sign(), batch.images), atol=1e-6)
    carried = step.recipe_state["perturbation"]
    again = Watched(net.net)
    outcomes("free", again, step, replays=1)
    assert torch.allclose(again.seen[0], (batch.images + carried).clamp(0, 1), atol=1e-6)


def test_distillation_weighs_the_softened_teacher_against_the_labels() -> None:
    net, batch = tiny_net(), thirds(6)
    step = step_of(batch, None)
    (outcome,) = outcomes("distill", net, step, temperature=2.0, weight=0.7)
    assert step.teacher is not None
    with torch.no_grad():
        student, taught = net(batch.images), step.teacher(batch.images)
    p, q = log_softmax_rows(taught / 2), log_softmax_rows(student / 2)
    soft = sum(math.exp(a) * (a - b) for x, y in zip(p, q, strict=True) for a, b in zip(x, y, strict=True)) / 6
    hard = cross_entropy(student, batch.labels).item()
    assert outcome.loss.item() == pytest.approx(0.7 * 4 * soft + 0.3 * hard, rel=1e-4)


def test_distillation_without_a_teacher_is_refused(examples: Batch, short: TrainingConfig) -> None:
    with pytest.raises(UsageError, match="learns from another model"):
        fit(tiny_net(), examples, short.model_copy(update={"recipe": "distill"}), classes=3)
