"""One attack, one corruption, maps made elsewhere, and metrics fed batch by batch."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

import audit
from audit.core.errors import AuditError, DataError, UsageError
from audit.core.registry import find
from audit.core.seeding import Generators, content_ids
from tests.conftest import small_cnn

THREAT = audit.ThreatModel("linf", 0.2)


@pytest.fixture(scope="module")
def net() -> nn.Sequential:
    return small_cnn()


@pytest.fixture(scope="module")
def model(net: nn.Sequential) -> audit.ModelUnderTest:
    return audit.wrap(net, classes=4, input_shape=(1, 12, 12), device="cpu")


@pytest.fixture(scope="module")
def images() -> Tensor:
    return torch.rand(12, 1, 12, 12, generator=torch.Generator().manual_seed(5))


@pytest.fixture(scope="module")
def labels(model: audit.ModelUnderTest, images: Tensor) -> Tensor:
    right = model.predictions(images)
    right[0] = (right[0] + 1) % 4
    return right


@pytest.mark.parametrize(
    ("method", "norm", "eps", "settings"),
    [
        ("apgd-ce", "linf", 0.2, {}),
        ("carlini-wagner", "l2", 1.5, {"steps": 30, "binary_search_steps": 3}),
        ("square", "l1", 12.0, {"queries": 60}),
    ],
)
def test_an_attacks_success_is_what_the_model_itself_confirms(
    method: str,
    norm: str,
    eps: float,
    settings: dict[str, int],
    model: audit.ModelUnderTest,
    images: Tensor,
    labels: Tensor,
) -> None:
    threat = audit.ThreatModel(norm, eps)  # type: ignore[arg-type]
    attacked = audit.attack(model, images, labels, threat, method=method, **settings)
    assert torch.equal(attacked.broken, model.predictions(attacked.images) != labels)
    assert threat.allows(attacked.images, images).all()
    assert torch.allclose(attacked.distance, threat.distance(attacked.images, images))
    assert attacked.broken_unchanged.nonzero().flatten().tolist() == [0] and attacked.distance[0] == 0
    assert attacked.broken.sum() > 1 and attacked.success_rate == pytest.approx((attacked.broken.sum().item() - 1) / 11)
    assert attacked.settings.items() >= settings.items() and attacked.passes.forwards > 0


def test_an_attack_follows_its_images_and_its_seed(model: audit.ModelUnderTest, images: Tensor, labels: Tensor) -> None:
    whole = audit.attack(model, images, labels, THREAT, method="square", queries=30, seed=3)
    part = audit.attack(model, images[4:7], labels[4:7], THREAT, method="square", queries=30, seed=3)
    other = audit.attack(model, images, labels, THREAT, method="square", queries=30, seed=4)
    assert torch.allclose(whole.images[4:7], part.images, atol=1e-6)
    assert not torch.equal(whole.images, other.images)


def test_an_attack_seeks_the_named_class(model: audit.ModelUnderTest, images: Tensor, labels: Tensor) -> None:
    goals = (labels + 2) % 4
    attacked = audit.attack(model, images, labels, audit.ThreatModel("linf", 0.4), targets=goals, steps=30)
    assert attacked.broken.any() and torch.equal(attacked.broken, model.predictions(attacked.images) == goals)


def test_a_corruption_is_the_audits_own(model: audit.ModelUnderTest, images: Tensor, labels: Tensor) -> None:
    foggy = audit.corrupt(model, images, labels, method="fog", severity=4, seed=7)
    draws = Generators.of(content_ids(images), seed=7, purpose="corruption fog", device="cpu")
    assert torch.equal(foggy.images, find("corruption", "fog").function(images, 4, draws))
    assert foggy.correct is not None and torch.equal(foggy.correct, model.predictions(foggy.images) == labels)
    assert torch.equal(foggy.kept[1:], foggy.correct[1:])
    assert (foggy.distortion > 0.01).all()
    assert audit.corrupt(model, images, method="fog").correct is None


def test_maps_made_elsewhere_score_as_our_own_where_they_are_equal(
    net: nn.Sequential, model: audit.ModelUnderTest, images: Tensor
) -> None:
    """captum's gradient on the user's module is ours on its copy."""
    from captum.attr import Saliency

    targets = model.predictions(images)
    theirs = Saliency(copy.deepcopy(net).eval()).attribute(images.clone().requires_grad_(), targets, abs=False)
    ours = audit.explain(model, images, method="saliency", targets=targets).attributions
    first = audit.evaluate_attributions(model, images, theirs.detach().numpy(), targets=targets)
    second = audit.evaluate_attributions(model, images, ours)
    assert all(torch.allclose(first.scores[name], second.scores[name], atol=1e-4) for name in first.scores)
    assert first.verdicts == second.verdicts


def test_a_map_that_knows_the_model_passes_and_its_opposite_warns() -> None:
    """On a linear model whose weights differ by pixel, the weighted input is the right order and its negative the
    reverse of it."""
    weight = torch.randn(64, generator=torch.Generator().manual_seed(1)) * 0.5
    linear = nn.Sequential(nn.Flatten(), nn.Linear(64, 2))
    with torch.no_grad():
        linear[1].weight.copy_(torch.stack([torch.zeros(64), weight]))
        linear[1].bias.zero_()
    model = audit.wrap(linear, classes=2, input_shape=(1, 8, 8), device="cpu")
    images = torch.rand(20, 1, 8, 8, generator=torch.Generator().manual_seed(2))
    right = weight.view(1, 1, 8, 8) * (images - images.mean((2, 3), keepdim=True))
    judged = audit.evaluate_attributions(model, images, right, targets=1)
    assert judged.verdicts == {"deletion": "pass", "road": "pass"}
    assert (judged.scores["deletion_area"] < judged.scores["deletion_area_random"]).all()
    assert audit.evaluate_attributions(model, images, -right[:, 0], targets=1).verdicts["deletion"] == "warn"
    assert audit.evaluate_attributions(model, images[:5], right[:5], targets=1).verdicts["deletion"] == "inconclusive"


def test_masks_add_scores_of_place(model: audit.ModelUnderTest, images: Tensor) -> None:
    masks = torch.zeros(12, 12, 12, dtype=torch.bool)
    masks[:, 2:5, 3:6] = True
    maps = masks.float() + 0.01
    scores = audit.evaluate_attributions(model, images, maps, masks=masks).scores
    assert scores["pointing_game"].eq(1).all() and scores["relevance_rank"].eq(1).all()
    assert torch.allclose(scores["relevance_mass"], torch.tensor(9 * 1.01 / (9 * 1.01 + 135 * 0.01)).double())


def test_robust_accuracy_by_batches_is_that_of_all_images(
    model: audit.ModelUnderTest, images: Tensor, labels: Tensor
) -> None:
    threat = audit.ThreatModel("linf", 0.04)
    metric = audit.RobustAccuracyMetric(model, threat, attacks=["fgsm"])
    batches = [metric(images[rows], labels[rows]) for rows in (slice(0, 5), slice(5, 12))]
    whole = audit.robustness(model, images, labels, threat, attacks=["fgsm"])
    assert metric.compute().item() == pytest.approx(whole.robust_accuracy)
    assert [batch.item() for batch in batches] == pytest.approx(
        [whole.robust[:5].double().mean().item(), whole.robust[5:].double().mean().item()]
    )
    assert metric.interval().low < metric.compute() < metric.interval().high and metric.passes.forwards > 0
    metric.reset()
    with pytest.raises(UsageError, match="call update"):
        metric.compute()


def test_attribution_scores_by_batches_are_those_of_all_images(model: audit.ModelUnderTest, images: Tensor) -> None:
    maps = audit.explain(model, images, method="saliency").attributions
    metric = audit.AttributionMetrics(model)
    metric.update(images[:7], maps[:7])
    metric.update(images[7:], maps[7:])
    whole = audit.evaluate_attributions(model, images, maps)
    for name, value in metric.compute().items():
        assert value.item() == pytest.approx(whole.scores[name].nanmean().item(), abs=1e-5)
    assert metric.interval("road_area").n == 12
    with pytest.raises(UsageError, match="Did you mean 'road_area'"):
        metric.interval("road_are")


def test_nothing_of_the_users_module_changes(images: Tensor, labels: Tensor) -> None:
    net = small_cnn().train()
    before = copy.deepcopy(net.state_dict())
    model = audit.wrap(net, classes=4, input_shape=(1, 12, 12), device="cpu")
    audit.attack(model, images, labels, THREAT, steps=3)
    audit.corrupt(model, images)
    audit.evaluate_attributions(model, images, images)
    assert net.training and all(p.requires_grad and p.grad is None for p in net.parameters())
    assert not any(part._forward_hooks or part._backward_hooks for part in net.modules())
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda m, x, y: audit.attack(m, x, y, THREAT, method="ddn"), "exists for l2, not for linf"),
        (lambda m, x, y: audit.attack(m, x, y, THREAT, method="apgdce"), "Did you mean 'apgd-ce'"),
        (lambda m, x, y: audit.attack(m, x, y, THREAT, method="spatial"), "threat of its own"),
        (lambda m, x, y: audit.attack(m, x, y, THREAT, step=3), "Did you mean 'steps'"),
        (lambda m, x, y: audit.attack(m, x, y, THREAT, targets=y), "must differ"),
        (lambda m, x, y: audit.attack(m, x * 255, y, THREAT), r"\[0, 1\] was expected"),
        (lambda m, x, y: audit.corrupt(m, x, severity=6), "from 1 to 5"),
        (lambda m, x, y: audit.corrupt(m, x, method="mist"), "Unknown corruption 'mist'"),
        (lambda m, x, y: audit.corrupt(m, x, y[:3]), "one an image"),
        (lambda m, x, y: audit.evaluate_attributions(m, x, x[:3]), r"Maps have shape \(3, 1, 12, 12\)"),
        (lambda m, x, y: audit.evaluate_attributions(m, x, x * torch.nan), "not finite"),
        (lambda m, x, y: audit.evaluate_attributions(m, x, "maps"), "maps is 'maps'"),
        (lambda m, x, y: audit.evaluate_attributions(m, x, x, masks=x), "Masks have shape"),
        (lambda m, x, y: audit.evaluate_attributions(m, x, x, targets=9), "out of range"),
    ],
    ids=range(14),
)
def test_what_cannot_be_used_gets_a_sentence(
    call: Callable[..., object], words: str, model: audit.ModelUnderTest, images: Tensor, labels: Tensor
) -> None:
    with pytest.raises((DataError, UsageError), match=words) as refused:
        call(model, images, labels)
    assert str(refused.value).endswith((".", "?"))


@pytest.mark.parametrize(
    ("call", "ours"),
    [
        (lambda m, x, y: audit.explain(m, x, method="lime", feature_mask=x), "'segments'"),
        (lambda m, x, y: audit.explain(m, x, method="integrated-gradients", n_steps=20), "'steps'"),
        (lambda m, x, y: audit.explain(m, x, method="shap", target=1), "'targets'"),
        (lambda m, x, y: audit.explain(m, inputs=x, method="shap"), "'images'"),
        (lambda m, x, y: audit.attack(m, x, y, epsilons=[0.1]), r"audit\.ThreatModel\('linf', 8 / 255\)"),
        (lambda m, x, y: audit.robustness(m, x, y, THREAT, attack="fgsm"), "'attacks'"),
        (lambda m, x, y: audit.evaluate_attributions(m, x, attributions=x), "'maps'"),
    ],
    ids=range(7),
)
def test_names_of_captum_and_foolbox_are_answered_with_ours(
    call: Callable[..., object], ours: str, model: audit.ModelUnderTest, images: Tensor, labels: Tensor
) -> None:
    with pytest.raises(AuditError, match=ours):
        call(model, images, labels)
