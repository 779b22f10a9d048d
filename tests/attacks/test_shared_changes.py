"""Universal perturbations and patches: the optimum is known on a linear model, and the bounds hold on any."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from audit.adversarial.verify import verify
from audit.attacks.patch import PATCH_POSITIONS, PatchThreat, patch
from audit.attacks.universal import perturbed, universal
from audit.core.ascent import steepest_ascent
from audit.core.errors import UsageError
from audit.core.seeding import Generators
from audit.core.threat import ThreatModel
from audit.core.types import Batch, Images
from audit.models.under_test import ModelUnderTest

SQUARE = PatchThreat(area=0.25, position="bottom-right")
BALL = ThreatModel("linf", 0.05)
KINDS: list[Any] = [pytest.param(universal, BALL, id="universal"), pytest.param(patch, SQUARE, id="patch")]


def draws_of(batch: Batch) -> Generators:
    return Generators.of(batch.ids, seed=0, purpose="shared", device="cpu")


@pytest.fixture
def one_side(linear_model: ModelUnderTest) -> Batch:
    """Images near grey that the linear model puts in class 1: one change moves them all best."""
    images = 0.5 + 0.05 * torch.randn(40, 1, 6, 6, generator=torch.Generator().manual_seed(5))
    logits = linear_model.logits(images)
    images = images[(logits[:, 1] > logits[:, 0])]
    return Batch(images, torch.ones(len(images), dtype=torch.int64), tuple(f"i{i}" for i in range(len(images))))


def weight_of(model: ModelUnderTest) -> Images:
    """The gradient of logit 0 less logit 1, (1, 1, 6, 6)."""
    layer = model.net[1]
    return (layer.weight[0] - layer.weight[1]).detach().view(1, 1, 6, 6)


@pytest.mark.parametrize(("norm", "eps"), [("linf", 0.05), ("l2", 0.4), ("l1", 1.0)])
def test_the_universal_perturbation_of_a_linear_model_is_the_closed_form(
    norm: Any, eps: float, linear_model: ModelUnderTest, one_side: Batch
) -> None:
    """eps x sign(w) for linf, eps x w / |w| for l2, eps on the steepest pixel for l1."""
    delta = universal(linear_model, one_side, ThreatModel(norm, eps), draws_of(one_side), steps=60, images_a_step=8)
    weight = weight_of(linear_model)
    best = steepest_ascent(norm, weight, weight, "unconstrained") * eps
    reached, possible = float((weight * delta).sum()), float((weight * best).sum())
    assert reached == pytest.approx(possible, rel=1e-3)
    assert torch.linalg.vector_norm(delta, {"linf": torch.inf, "l2": 2, "l1": 1}[norm]) <= eps * (1 + 1e-5)


def test_the_patch_on_a_linear_model_is_the_closed_form(linear_model: ModelUnderTest, one_side: Batch) -> None:
    """White where the weight towards the other class is positive, black where it is negative."""
    paint = patch(linear_model, one_side, SQUARE, draws_of(one_side), steps=60, images_a_step=8)
    inside = SQUARE.inside(one_side.images)
    assert int(inside.sum()) == 9
    assert torch.equal(paint[inside], (weight_of(linear_model) > 0).float()[inside])


@pytest.mark.parametrize(
    ("attack", "threat"), [(universal, ThreatModel("linf", 0.1)), (patch, PatchThreat(0.3))], ids=["universal", "patch"]
)
def test_it_breaks_images_it_never_saw_and_more_than_noise_does(
    attack: Any, threat: Any, cnn_model: ModelUnderTest
) -> None:
    """On images of one class: of two that are as common as each other, a single change can only lose one."""
    images = torch.rand(300, 1, 12, 12, generator=torch.Generator().manual_seed(4))
    labels = cnn_model.predictions(images)
    batch = Batch(images, labels, tuple(f"u{i}" for i in range(300))).select(labels == labels[0])
    batch = batch.select(torch.arange(128))
    made_on, scored = batch.select(torch.arange(0, 128, 2)), batch.select(torch.arange(1, 128, 2))
    change = attack(cnn_model, made_on, threat, draws_of(made_on), steps=60, images_a_step=32)
    noise = torch.rand(1, 1, 12, 12, generator=torch.Generator().manual_seed(1))
    apply = perturbed if attack is universal else threat.painted
    blind = (noise - 0.5).sign() * 0.1 if attack is universal else noise
    ours, control = (verify(cnn_model, scored, apply(scored.images, one), threat) for one in (change, blind))
    assert not ours.faults.any() and ours.broken.sum() >= control.broken.sum() + 12


def test_a_targeted_patch_sends_images_to_its_class(cnn_model: ModelUnderTest) -> None:
    images = torch.rand(48, 1, 12, 12, generator=torch.Generator().manual_seed(4))
    labels = cnn_model.predictions(images)
    target = int(labels.bincount(minlength=4).argmin())
    elsewhere = (labels != target).nonzero().flatten()
    goal = torch.zeros(48, 4, dtype=torch.bool)
    goal[:, target] = True
    batch = Batch(images, labels, tuple(f"t{i}" for i in range(48)), goal).select(elsewhere)
    threat = PatchThreat(0.4, "centre")
    paint = patch(cnn_model, batch, threat, draws_of(batch), steps=40, images_a_step=16)
    reached = cnn_model.predictions(threat.painted(batch.images, paint)) == target
    assert reached.double().mean() > 0.8


@pytest.mark.parametrize(("attack", "threat"), KINDS)
def test_order_batch_size_device_and_a_second_run_change_nothing(
    attack: Any, threat: Any, cnn_model: ModelUnderTest, cnn_batch: Batch
) -> None:
    def run(batch: Batch) -> Images:
        return attack(cnn_model, batch, threat, draws_of(batch), steps=6, images_a_step=4)

    together = run(cnn_batch)
    torch.manual_seed(5)
    assert torch.equal(run(cnn_batch), together)
    cnn_model.layout.batch_size = 3
    assert torch.allclose(run(cnn_batch.select(torch.arange(9, -1, -1))), together, atol=1e-4)
    with torch.device("meta"):
        assert torch.allclose(run(cnn_batch), together, atol=1e-4)
    assert run(cnn_batch.select(torch.zeros(0, dtype=torch.int64))).shape == (1, 1, 12, 12)


@pytest.mark.parametrize("position", PATCH_POSITIONS)
def test_a_patch_is_where_it_says_and_nowhere_else(position: Any) -> None:
    images = torch.rand(3, 2, 10, 14, generator=torch.Generator().manual_seed(0))
    threat = PatchThreat(0.2, position)
    painted = threat.painted(images, torch.ones(1, 2, 10, 14))
    assert threat.allows(painted, images).all() and not threat.allows(painted.flip(2, 3), images).any()
    assert torch.allclose(threat.distance(painted, images), torch.full((3,), 25 / 140, dtype=torch.float64))
    assert torch.equal(threat.project(torch.ones_like(images), images), painted)
    assert not threat.allows(painted * 1.5, images).any()


def test_an_impossible_patch_is_a_sentence() -> None:
    with pytest.raises(UsageError, match="for 5%"):
        PatchThreat(5)
    with pytest.raises(UsageError, match="centre"):
        PatchThreat(0.1, "center")  # type: ignore[arg-type]


@pytest.mark.parametrize("shape", [(2, 200), (200, 2), (28, 28), (9, 64), (1, 50)])
@pytest.mark.parametrize("area", [0.05, 0.3])
def test_a_patch_covers_its_share_of_an_image_of_any_proportions_and_says_what_it_covers(
    shape: tuple[int, int], area: float
) -> None:
    threat, images = PatchThreat(area), torch.rand(1, 3, *shape)
    covered = float(threat.inside(images).double().mean())
    assert threat.share_of(images) == covered and abs(covered - area) < 0.025
    assert f"{covered:.1%}" in threat.described(images)
    assert threat.allows(threat.painted(images, 1 - images), images).all()
