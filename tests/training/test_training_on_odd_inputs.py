"""Training goes on where predictions are certain, images are few, or a clamp stands first; and says what to change."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

import audit
from audit.config import TrainingConfig
from audit.core.errors import DataError, ModelError, TrainingDiverged
from audit.core.threat import ThreatModel
from audit.training.callbacks import TrainingCallbacks, calmer_training
from audit.training.fit import fit
from audit.training.recipes.mart import margin_loss, weighted_divergence
from audit.training.step import kl_divergence
from tests.training.toy import thirds, tiny_net

LINF = ThreatModel("linf", 0.1)
SETTINGS = TrainingConfig(
    epochs=1, batch_size=8, learning_rate=1e-3, probe_examples=8, probe_steps=2, precision="float32"
)


@pytest.mark.parametrize("scale", [1.0, 1e3, 1e4])
def test_divergences_of_certain_predictions_are_finite_and_so_are_their_gradients(scale: float) -> None:
    clean, attacked = ((torch.randn(6, 5) * scale).requires_grad_() for _ in range(2))
    labels = torch.arange(6) % 5
    for loss in (
        kl_divergence(clean, attacked),
        weighted_divergence(clean, attacked, labels),
        margin_loss(attacked, labels),
    ):
        gradients = torch.autograd.grad(loss.sum(), [clean, attacked], allow_unused=True)
        assert bool(loss.isfinite().all()) and bool((loss >= -1e-4).all())
        assert all(bool(g.isfinite().all()) for g in gradients if g is not None)


def test_the_divergences_are_those_of_the_papers() -> None:
    clean, attacked, labels = torch.randn(6, 5), torch.randn(6, 5), torch.arange(6) % 5
    p, q = clean.softmax(1), attacked.softmax(1)
    torch.testing.assert_close(kl_divergence(clean, attacked), (p * (p / q).log()).sum(1))
    wrong = q.clone().scatter_(1, labels[:, None], 0).amax(1)
    torch.testing.assert_close(margin_loss(attacked, labels), -(1 - wrong).log())


@pytest.mark.parametrize("recipe", ["pgd", "fgsm-rs", "free", "trades", "mart", "standard"])
def test_every_recipe_trains_a_net_that_is_certain(recipe: str) -> None:
    net = tiny_net()
    with torch.no_grad():
        net[-1].weight.mul_(3e4)
    trained = fit(net, thirds(24), SETTINGS.model_copy(update={"recipe": recipe}), classes=3, threat=LINF)
    assert all(bool(weight.isfinite().all()) for weight in trained.weights.values())


class Cut(nn.Module):
    def __init__(self, at: str) -> None:
        super().__init__()
        self.net, self.at = tiny_net(), at

    def forward(self, images: Tensor) -> Tensor:
        if self.at == "no_grad":
            with torch.no_grad():
                return self.net(images)
        if self.at == "numpy":
            return self.net(torch.from_numpy(images.numpy()))
        return self.net(images.detach())


@pytest.mark.parametrize("at", ["no_grad", "numpy", "detach"])
def test_a_net_that_autograd_does_not_follow_is_refused_by_the_training_that_needs_it(at: str) -> None:
    adversarial = SETTINGS.model_copy(update={"recipe": "pgd"})
    with pytest.raises(ModelError, match=r"cannot be trained against an adversary.*without autograd"):
        fit(Cut(at), thirds(24), adversarial, classes=3, threat=LINF)
    if at == "no_grad":
        with pytest.raises(ModelError, match="cannot be trained: its forward"):
            fit(Cut(at), thirds(24), SETTINGS, classes=3, threat=None)
    else:
        assert fit(Cut(at), thirds(24), SETTINGS, classes=3, threat=None).history


@pytest.mark.parametrize("count", [5, 12, 30])
def test_fewer_images_than_a_batch_are_learnt_in_smaller_batches_with_a_note(count: int) -> None:
    settings = SETTINGS.model_copy(update={"batch_size": 64})
    trained = fit(tiny_net(norm=True), thirds(count), settings, classes=3, threat=None)
    (sentence,) = trained.notes
    assert "fewer than a batch of 64" in sentence.text and len(trained.history) == 1


def test_enough_images_are_learnt_in_the_batches_asked_for() -> None:
    assert fit(tiny_net(), thirds(24), SETTINGS, classes=3, threat=None).notes == ()


def test_a_single_image_to_learn_from_is_refused() -> None:
    with pytest.raises(DataError) as refused:
        fit(tiny_net(), thirds(2), SETTINGS, classes=3, threat=None)
    assert str(refused.value) == (
        "2 training images are too few: 1 held out to judge by, 1 left to learn from, where at least 2 were expected. "
        "Give more images."
    )


def test_hardening_on_one_image_is_refused_in_a_sentence() -> None:
    model = audit.wrap(tiny_net(), classes=3, input_shape=thirds(1).images.shape[1:], device="cpu")
    with pytest.raises(DataError, match=r"^1 training image is too few: 1 held out to judge by, 0 left to learn from,"):
        audit.harden(model, thirds(1).images, thirds(1).labels, LINF)


@pytest.mark.parametrize(
    ("role", "keys"),
    [
        ("standard", "training.learning_rate, or clip the gradient, as with --set training.clip_gradient=1"),
        ("hardened", "hardening.learning_rate, or clip the gradient, as with --set hardening.clip_gradient=1"),
        ("compressed", "compression.learning_rate, or clip the gradient, as with --set compression.clip_gradient=1"),
        ("", "learning_rate, or clip the gradient, as with clip_gradient=1"),
    ],
)
def test_a_training_that_diverged_names_keys_that_it_reads(role: str, keys: str) -> None:
    wild = SETTINGS.model_copy(update={"learning_rate": 1e30})
    with pytest.raises(TrainingDiverged) as caught:
        fit(tiny_net(), thirds(48), wild, classes=3, threat=None, callbacks=TrainingCallbacks(role=role))
    assert f"Lower {keys}." in str(caught.value) and calmer_training(role) in str(caught.value)


def test_the_advised_keys_exist() -> None:
    config = audit.RunConfig()
    for table in (config.training, config.hardening, config.compression):
        assert {"learning_rate", "clip_gradient"} <= type(table).model_fields.keys()


class Clamping(nn.Module):
    def __init__(self, net: nn.Module, entrance: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.net, self.entrance = copy.deepcopy(net), entrance

    def forward(self, images: Tensor) -> Tensor:
        return self.net(self.entrance(images))


def test_hardening_through_a_clamp_comes_to_the_same_net() -> None:
    batch = thirds(48)
    images = ((batch.images * 1.6 - 0.4).clamp(0, 1) * 4).round() / 4  # black and white for the most part
    weights = []
    for net in (tiny_net(), Clamping(tiny_net(), lambda z: torch.nn.functional.hardtanh(z, 0.0, 1.0))):
        model = audit.wrap(net, classes=3, input_shape=(1, 9, 9), device="cpu")
        hardened = audit.harden(model, images, batch.labels, LINF, epochs=2, batch_size=16, probe_examples=8)
        weights.append(list(hardened.model.net.state_dict().values()))
        clamps = isinstance(net, Clamping)
        assert any("kink" in sentence for sentence in hardened.notes) == clamps
    for plain, twin in zip(*weights, strict=True):
        torch.testing.assert_close(plain, twin, rtol=0.02, atol=2e-3)
