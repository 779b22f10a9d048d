"""Parts that run without autograd: the layer is named where the gradient is no slope; what is harmless stays."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from audit.core.registry import methods
from audit.explanation.gradient_border import missing_gradient
from audit.explanation.run import explain_images
from audit.models.under_test import ModelUnderTest

GRADIENT_METHODS = [method.name for method in methods("attribution") if method.facts["needs"] != "scores"]


class Backbone(nn.Module):
    """A backbone and a small shortcut, joined; `how` cuts the backbone's gradient."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.how = how
        self.body = nn.Sequential(nn.Conv2d(1, 8, 5, 2), nn.ReLU(), nn.Conv2d(8, 8, 5, 2), nn.Flatten())
        self.head, self.shortcut = nn.Linear(128, 3), nn.Linear(784, 3)

    def forward(self, images: Tensor) -> Tensor:
        if self.how == "numpy":
            features = self.body(torch.from_numpy(images.detach().numpy()))
        elif self.how == "detach":
            features = self.body(images).detach()
        elif self.how == "data":
            features = self.body(images).data
        else:
            with torch.set_grad_enabled(torch.is_grad_enabled() and self.how != "no_grad"):
                features = self.body(images)
        scores: Tensor = self.head(features) + 1e-3 * self.shortcut(images.flatten(1))
        return scores


def wrapped(net: nn.Module) -> ModelUnderTest:
    return ModelUnderTest(net, classes="abc", input_shape=(1, 28, 28), device="cpu")


@pytest.mark.parametrize("method", GRADIENT_METHODS)
def test_no_gradient_method_maps_the_shortcut_alone(method: str) -> None:
    torch.manual_seed(0)
    found = explain_images(wrapped(Backbone("no_grad")), torch.rand(2, 1, 28, 28), method=method)
    assert found.status == "not_applicable"
    assert "'body.0'" in str(found.reason) and "without autograd" in str(found.reason)


@pytest.mark.parametrize("how", ["no_grad", "numpy", "detach", "data"])
def test_every_way_to_leave_autograd_is_seen_and_scores_still_serve(how: str) -> None:
    torch.manual_seed(0)
    model, images = wrapped(Backbone(how)), torch.rand(1, 1, 28, 28)
    assert missing_gradient(model).key == "gradient_cut"
    assert explain_images(model, images, method="occlusion").status == "measured"


class Harmless(Backbone):
    """Detached: what nothing reads, a straight-through rounding, a mean that moves little."""

    def forward(self, images: Tensor) -> Tensor:
        self.seen = images.detach().mean()
        rounded = images + ((images * 255).round() / 255 - images).detach()
        with torch.no_grad():
            rounded.abs().amax()
        return super().forward(rounded - rounded.detach().mean((2, 3), keepdim=True) * 0.01)


def test_what_is_detached_without_harm_is_explained() -> None:
    torch.manual_seed(0)
    for net in (Backbone(""), Harmless("")):
        assert not missing_gradient(wrapped(net))


class Overwriting(nn.Module):
    """A forward that no backward can follow: what ReLU needs is overwritten."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.head = nn.Conv2d(1, 4, 3), nn.Linear(4, 3)

    def forward(self, images: Tensor) -> Tensor:
        scores: Tensor = self.head(self.conv(images).relu().mul_(2).mean((2, 3)))
        return scores


@pytest.mark.parametrize("method", ["saliency", "grad-cam", "integrated-gradients"])
def test_a_forward_that_cannot_be_differentiated_is_a_sentence(method: str) -> None:
    found = explain_images(wrapped(Overwriting()), torch.rand(1, 1, 28, 28), method=method)
    assert found.status == "not_applicable" and "cannot be differentiated" in str(found.reason)
