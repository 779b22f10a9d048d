import copy

import numpy as np
import pytest
import torch
from safetensors import safe_open
from torch import Tensor, nn

import audit
from audit.core.errors import DataError, UsageError
from tests.conftest import small_cnn

NAMES = ("a", "b", "c", "d")
THREAT = audit.ThreatModel("linf", 0.2)


@pytest.fixture
def net() -> nn.Sequential:
    return small_cnn()


@pytest.fixture
def model(net: nn.Sequential) -> audit.ModelUnderTest:
    return audit.wrap(net, classes=NAMES, input_shape=(1, 12, 12), device="cpu")


@pytest.fixture
def images() -> Tensor:
    return torch.rand(12, 1, 12, 12, generator=torch.Generator().manual_seed(5))


@pytest.fixture
def labels(model: audit.ModelUnderTest, images: Tensor) -> Tensor:
    right = model.predictions(images)
    right[0] = (right[0] + 1) % 4
    return right


def striped(count: int) -> tuple[Tensor, Tensor]:
    """Two classes anyone can learn: bright on the left, or on the right."""
    labels = torch.arange(count) % 2
    images = torch.rand(count, 1, 12, 12, generator=torch.Generator().manual_seed(2)) * 0.3
    for index, label in enumerate(labels.tolist()):
        images[index, :, :, 6 * label : 6 * label + 6] += 0.6
    return images, labels


def test_every_exported_name_is_there() -> None:
    assert all(getattr(audit, name) is not None for name in audit.__all__)
    assert set(audit.__all__) <= set(dir(audit))
    with pytest.raises(AttributeError, match="wrap"):
        audit.absent  # noqa: B018


def test_robustness_reports_what_the_model_itself_confirms(
    model: audit.ModelUnderTest, images: Tensor, labels: Tensor
) -> None:
    found = audit.robustness(model, images, labels, THREAT)
    wrong = model.predictions(found.adversarial) != labels
    assert torch.equal(~found.robust, wrong)
    assert found.robust.dtype == torch.bool and not found.robust[0] and found.broken_by[0] == "clean"
    assert [name is None for name in found.broken_by] == found.robust.tolist()
    assert torch.equal(found.adversarial[found.robust], images[found.robust])
    assert THREAT.allows(found.adversarial, images).all()
    assert found.passes.forwards >= found.passes.backwards > 0
    assert found.robust_accuracy == pytest.approx(float(found.robust.double().mean()))


def test_draws_follow_the_images_and_not_their_order(
    model: audit.ModelUnderTest, images: Tensor, labels: Tensor
) -> None:
    order = torch.randperm(12, generator=torch.Generator().manual_seed(1))
    straight = audit.robustness(model, images, labels, THREAT, seed=3)
    shuffled = audit.robustness(model, images[order], labels[order], THREAT, seed=3)
    assert torch.equal(straight.robust[order], shuffled.robust)
    assert torch.allclose(straight.adversarial[order], shuffled.adversarial, atol=1e-5)


def test_targets_by_class_and_by_mask_mean_the_same(
    model: audit.ModelUnderTest, images: Tensor, labels: Tensor
) -> None:
    goals = (labels + 2) % 4
    mask = torch.zeros(12, 4, dtype=torch.bool).scatter_(1, goals[:, None], True)
    by_class = audit.robustness(model, images, labels, THREAT, targets=goals)
    by_mask = audit.robustness(model, images, labels, THREAT, targets=mask)
    assert torch.equal(by_class.robust, by_mask.robust)
    reached = model.predictions(by_class.adversarial) == goals
    assert torch.equal(reached, ~by_class.robust)


def test_a_curve_falls_and_agrees_with_its_minimal_eps(
    model: audit.ModelUnderTest, images: Tensor, labels: Tensor
) -> None:
    curve = audit.robustness_curve(model, images, labels, "linf", [0.05, 0.2, 0.4], battery="quick")
    assert curve.robust.shape == (3, 12)
    assert (curve.robust[1:] <= curve.robust[:-1]).all()
    assert curve.minimal_eps[0] == 0
    for row, eps in zip(curve.robust, curve.eps, strict=True):
        assert (curve.minimal_eps[~row] <= eps * (1 + 1e-5)).all()


def test_attacks_by_name_take_the_place_of_a_battery(
    model: audit.ModelUnderTest, images: Tensor, labels: Tensor
) -> None:
    found = audit.robustness(model, images, labels, THREAT, attacks=["fgsm", "multi-targeted"])
    assert [row.name for row in found.attacks] == ["fgsm", "multi-targeted"]
    assert set(found.broken_by) <= {"clean", "fgsm", "multi-targeted", None}
    assert torch.equal(
        found.robust, audit.robustness(model, images, labels, THREAT, battery="fgsm,multi-targeted").robust
    )
    with pytest.raises(UsageError, match=r"other_threats\.examples"):
        audit.robustness(model, images, labels, THREAT, attacks=["spatial"])


@pytest.mark.parametrize("method", ["saliency", "integrated-gradients", "grad-cam", "lime", "shap"])
def test_explanations_have_the_shape_of_the_images(method: str, model: audit.ModelUnderTest, images: Tensor) -> None:
    found = audit.explain(model, images[:3], method=method)
    assert found.status == "measured" and found.attributions is not None
    assert found.attributions.shape[0] == 3 and found.attributions.shape[2:] == (12, 12)
    assert torch.isfinite(found.attributions).all() and found.passes.forwards > 0


def test_segment_methods_give_every_pixel_its_segments_value(model: audit.ModelUnderTest, images: Tensor) -> None:
    segments = (torch.arange(144).view(12, 12) // 16).long()
    found = audit.explain(model, images[:2], method="shap", segments=segments, baseline=0.0)
    assert found.attributions is not None
    for number in range(9):
        assert found.attributions[:, 0][:, segments == number].std(dim=1).max() == 0


def test_nothing_of_the_users_module_changes(net: nn.Sequential, images: Tensor, labels: Tensor) -> None:
    net.train()
    before = copy.deepcopy(net.state_dict())
    model = audit.wrap(net, classes=NAMES, input_shape=(1, 12, 12), device="cpu")
    audit.robustness(model, images, labels, THREAT)
    audit.explain(model, images[:2], method="grad-cam")
    audit.harden(model, images.repeat(4, 1, 1, 1), labels.repeat(4), THREAT, epochs=1, batch_size=8)
    assert net.training and all(p.requires_grad and p.grad is None for p in net.parameters())
    assert not any(part._forward_hooks or part._backward_hooks for part in net.modules())
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())


def test_train_learns_and_what_it_saves_loads(tmp_path) -> None:  # type: ignore[no-untyped-def]
    images, labels = striped(200)
    trained = audit.train(
        images,
        labels,
        classes=("left", "right"),
        architecture="resnet-18-small",
        epochs=1,
        batch_size=20,
        device="cpu",
        precision="float32",  # ten steps: four seeds in 17 have learnt nothing yet, in either
    )
    assert (trained.model.predictions(images) == labels).double().mean() > 0.9
    trained.save(tmp_path / "net.safetensors")
    with safe_open(tmp_path / "net.safetensors", framework="pt") as file:
        assert file.metadata()["architecture"] == "resnet-18-small"
        state = {name: file.get_tensor(name) for name in file.keys()}
    assert all(torch.equal(value, state[name]) for name, value in trained.model.net.state_dict().items())


def test_hardening_makes_a_model_harder_to_fool() -> None:
    images, labels = striped(240)
    linear = nn.Sequential(nn.Flatten(), nn.Linear(144, 2))
    with torch.no_grad():
        weight = torch.rand(144, generator=torch.Generator().manual_seed(4)) - 0.5
        weight += 0.2 * (torch.arange(144) % 12 >= 6).float() - 0.1
        linear[1].weight.copy_(torch.stack([-weight, weight]))
        linear[1].bias.copy_(torch.tensor([0.0, 0.0]))
    weak = audit.wrap(linear, classes=2, input_shape=(1, 12, 12), device="cpu")
    threat = audit.ThreatModel("linf", 0.1)
    hard = audit.harden(weak, images, labels, threat, epochs=6, batch_size=20, learning_rate=0.02)
    before = audit.robustness(weak, images, labels, threat).robust_accuracy
    after = audit.robustness(hard.model, images, labels, threat).robust_accuracy
    assert after > before + 0.3


def test_numpy_arrays_are_taken(model: audit.ModelUnderTest, images: Tensor, labels: Tensor) -> None:
    arrays = audit.robustness(model, images.numpy(), labels.numpy(), THREAT)
    assert torch.equal(arrays.robust, audit.robustness(model, images, labels, THREAT).robust)
    floats = audit.robustness(model, images, labels.numpy().astype(float)[:, None], THREAT)
    assert torch.equal(arrays.robust, floats.robust)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"images": lambda i, y: i * 255}, r"\[0, 1\]"),
        ({"images": lambda i, y: (i * 255).to(torch.uint8)}, "divide bytes by 255"),
        ({"images": lambda i, y: i * torch.nan}, "not finite"),
        ({"images": lambda i, y: i[:0]}, "at least one"),
        ({"labels": lambda i, y: y[:5]}, "one an image"),
        ({"labels": lambda i, y: y.float() + 0.5}, "whole numbers"),
        ({"labels": lambda i, y: y + 4}, "outside the model's 4 classes"),
        ({"targets": lambda i, y: y}, "must differ"),
        ({"targets": lambda i, y: torch.ones(12, 4, dtype=torch.bool)}, "own label"),
        ({"targets": lambda i, y: torch.ones(12, 3, dtype=torch.bool)}, r"\(12, 4\) was expected"),
        ({"battery": lambda i, y: "strong"}, "quick"),
    ],
)
def test_arguments_that_cannot_be_used_get_a_sentence(change, words, model, images, labels) -> None:  # type: ignore[no-untyped-def]
    given = {"images": images, "labels": labels} | {name: make(images, labels) for name, make in change.items()}
    with pytest.raises((DataError, UsageError), match=words):
        audit.robustness(model, given.pop("images"), given.pop("labels"), THREAT, **given)


def test_training_settings_are_checked_by_name_and_value(model: audit.ModelUnderTest) -> None:
    images, labels = np.zeros((4, 1, 12, 12), np.float32), np.zeros(4, np.int64)
    with pytest.raises(UsageError, match="Did you mean 'epochs'"):
        audit.train(images, labels, classes=2, architecture="resnet-18-small", epoch=3)
    with pytest.raises(UsageError, match="'epochs'"):
        audit.harden(model, images, labels, THREAT, epochs=0)
