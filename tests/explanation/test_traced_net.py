"""Functional, in-place, reused and residual activations: rewritten on a copy, or refused by name."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from audit.core.errors import NotApplicable
from audit.explanation.run import explain_images
from audit.explanation.traced_net import with_module_activations
from audit.models.under_test import ModelUnderTest


class Net(nn.Module):
    """One architecture in five spellings of its activations, equal outputs."""

    def __init__(self, spelling: str) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(2)
        self.spelling = spelling
        self.first = nn.Conv2d(1, 6, 3, padding=1)
        self.second = nn.Conv2d(6, 6, 3, padding=1)
        self.head = nn.Linear(6 * 16, 3)
        self.relu = nn.ReLU(inplace=spelling == "in-place")
        self.own = nn.ModuleList([nn.ReLU(), nn.ReLU()])
        self.pool = nn.MaxPool2d(2)
        for parameter in self.parameters():
            parameter.data = torch.randn(parameter.shape, generator=generator) / 3

    def forward(self, images: Tensor) -> Tensor:
        features = self.pool(self._active(self.first(images), 0))
        skipped = features + self._active(self.second(features), 1)
        scores: Tensor = self.head(skipped.flatten(1))
        return scores

    def _active(self, features: Tensor, place: int) -> Tensor:
        if self.spelling == "functional":
            return functional.relu(features)
        if self.spelling == "method":
            return features.relu_()
        active: Tensor = self.own[place](features) if self.spelling == "modules" else self.relu(features)
        return active


SPELLINGS = ["functional", "method", "in-place", "reused"]


def wrapped(net: nn.Module) -> ModelUnderTest:
    return ModelUnderTest(net, classes="abc", input_shape=(1, 8, 8), mean=0.4, std=0.3, device="cpu")


IMAGES = torch.rand(4, 1, 8, 8, generator=torch.Generator().manual_seed(3))


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_rewriting_keeps_the_outputs_and_separates_every_activation(spelling: str) -> None:
    net = Net(spelling).eval()
    copy = with_module_activations(net)
    assert torch.allclose(copy(IMAGES), net(IMAGES), atol=1e-6)
    called = [str(node.target) for node in copy.graph.nodes if node.op == "call_module"]
    active = [name for name in called if isinstance(copy.get_submodule(name), nn.ReLU)]
    assert len(active) == len(set(active)) == 2
    assert not any(getattr(copy.get_submodule(name), "inplace", False) for name in active)


@pytest.mark.parametrize("method", ["guided-backprop", "deep-lift", "lrp"])
@pytest.mark.parametrize("spelling", SPELLINGS)
def test_maps_do_not_depend_on_how_activations_are_spelt(method: str, spelling: str) -> None:
    plain = explain_images(wrapped(Net("modules")), IMAGES, method=method, targets=1)
    other = explain_images(wrapped(Net(spelling)), IMAGES, method=method, targets=1)
    assert plain.attributions is not None
    assert torch.allclose(plain.attributions, other.attributions, atol=1e-5)
    gradient = explain_images(wrapped(Net(spelling)), IMAGES, method="saliency", targets=1)
    assert not torch.allclose(other.attributions, gradient.attributions, atol=1e-3)


@pytest.mark.parametrize("spelling", ["modules", *SPELLINGS])
def test_deep_lift_is_complete_across_a_residual_add(spelling: str) -> None:
    found = explain_images(wrapped(Net(spelling)), IMAGES, method="deep-lift", targets=2, baseline="mean")
    assert float(found.quality["completeness_residual"].max()) < 1e-4


def test_guided_backprop_is_the_gradient_with_negative_parts_dropped_at_each_relu() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, 10), nn.ReLU(), nn.Linear(10, 3))
    found = explain_images(wrapped(net), IMAGES, method="guided-backprop", targets=1)
    first, last = net[1].weight.detach(), net[3].weight.detach()
    hidden = ((IMAGES - 0.4) / 0.3).flatten(1) @ first.T + net[1].bias.detach()
    expected = (last[1].clamp(min=0) * (hidden > 0)) @ first / 0.3
    assert torch.allclose(found.attributions.flatten(1), expected, atol=1e-5)


class Multiplied(nn.Module):
    """A gate: no rule divides a product of features."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.head = nn.Linear(64, 8), nn.Linear(64, 8), nn.Linear(8, 3)

    def forward(self, images: Tensor) -> Tensor:
        flat = images.flatten(1)
        scores: Tensor = self.head(self.first(flat) * self.second(flat))
        return scores


class Branching(Multiplied):
    """Its forward looks at the pixels."""

    def forward(self, images: Tensor) -> Tensor:
        if bool(images.mean() > 10):
            return images.flatten(1)[:, :3]
        return super().forward(images)


@pytest.mark.parametrize("method", ["deep-lift", "deep-shap", "lrp"])
def test_missing_rule_is_refused_by_name(method: str) -> None:
    gated = explain_images(wrapped(Multiplied()), IMAGES, method=method)
    assert gated.status == "not_applicable"
    assert "'mul'" in str(gated.reason)
    smooth = nn.Sequential(nn.Flatten(), nn.Linear(64, 5), nn.Softmax(1), nn.Linear(5, 3))
    layered = explain_images(wrapped(smooth), IMAGES, method=method)
    assert layered.status == "not_applicable"
    assert "layer '2' (Softmax)" in str(layered.reason)


def test_untraceable_and_reluless_nets_are_refused_with_the_reason() -> None:
    with pytest.raises(NotApplicable, match="Branching cannot be traced"):
        with_module_activations(Branching())
    found = explain_images(wrapped(Multiplied()), IMAGES, method="guided-backprop")
    assert found.status == "not_applicable"
    assert "no ReLU" in str(found.reason)


@pytest.mark.parametrize("method", ["deep-lift", "lrp"])
def test_probabilities_have_no_rule(method: str) -> None:
    found = explain_images(wrapped(Net("modules")), IMAGES, method=method, output="probability")
    assert found.status == "not_applicable"


def test_deep_lift_equals_captums_where_that_is_complete() -> None:
    from captum.attr import DeepLift

    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.Tanh(), nn.Conv2d(4, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(64, 3))
    model, baseline = wrapped(net), torch.rand(4, 1, 8, 8, generator=torch.Generator().manual_seed(5))
    with pytest.warns(UserWarning, match="hooks"):
        theirs = DeepLift(model.module).attribute(IMAGES.clone().requires_grad_(True), baseline, target=1).detach()
    found = explain_images(model, IMAGES, method="deep-lift", targets=1, baseline=baseline)
    assert torch.allclose(found.attributions, theirs, atol=1e-5)
