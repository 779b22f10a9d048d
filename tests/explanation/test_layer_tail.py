"""The part of a net after a layer, run by itself, gives what the whole net gives."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from audit.explanation.layer_tail import LayerTail
from audit.explanation.target_layer import rectified_layer
from audit.models.architecture import build
from audit.models.under_test import ModelUnderTest
from tests.conftest import small_cnn


def wrapped(net: nn.Module, shape: tuple[int, int, int] = (1, 12, 12)) -> ModelUnderTest:
    return ModelUnderTest(net.eval(), classes="abcd", input_shape=shape, device="cpu")


class Beside(nn.Module):
    """Something of the image goes past the convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.head = nn.Conv2d(1, 6, 3), nn.Linear(600, 4)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.head(self.conv(images).relu().flatten(1)) + images.mean((1, 2, 3))[:, None] ** 2
        return logits


NETS: dict[str, tuple[nn.Module, str, bool]] = {
    "modules": (small_cnn(), "4", True),
    "first layer": (small_cnn(), "0", True),
    "in place": (nn.Sequential(*small_cnn()[:4], nn.ReLU(inplace=True), *small_cnn()[5:]), "3", True),
    "probabilities": (nn.Sequential(small_cnn(), nn.Softmax(1)), "0.4", True),
    "past the layer": (Beside(), "conv", False),
}


@pytest.mark.parametrize("name", NETS)
def test_the_tail_gives_the_logits_of_the_whole_net_and_its_gradient(name: str) -> None:
    net, layer, replays = NETS[name]
    model, images = wrapped(net), torch.rand(37, 1, 12, 12)
    tail = LayerTail(model, layer)
    maps = tail.maps(images)
    assert tail.replays is replays
    assert torch.allclose(tail.logits(maps, images), model.logits(images), atol=1e-5)
    leaf = maps.clone().requires_grad_(True)
    hook = model.net.get_submodule(layer).register_forward_hook(lambda *_: leaf.clone())
    (expected,) = torch.autograd.grad(model.module(images)[:, 2].sum(), leaf)
    hook.remove()
    assert torch.allclose(tail.gradient(maps, images, lambda logits: logits[:, 2]), expected, atol=1e-6)


def test_another_map_gives_what_the_net_makes_of_it() -> None:
    net = small_cnn()
    model, images = wrapped(net), torch.rand(5, 1, 12, 12)
    tail = LayerTail(model, "4")
    maps = tail.maps(images) * torch.rand(5, 12, 1, 1)
    assert torch.allclose(tail.logits(maps, images), net[5:](maps), atol=1e-5)


def test_a_replayed_map_costs_its_share_of_a_forward() -> None:
    model, images = wrapped(small_cnn()), torch.rand(40, 1, 12, 12)
    tail = LayerTail(model, "4")
    maps = tail.maps(images)
    with model.count() as counter:
        tail.logits(maps, images)
    assert 0 < tail.share < 0.3 and counter.forwards == -(-40 * tail.share // 1)


@pytest.mark.parametrize(("name", "layer"), [("cnn-28", "relu2"), ("resnet-18-small", None)])
def test_concepts_are_read_where_no_value_is_negative_and_all_goes_through(name: str, layer: str | None) -> None:
    model = wrapped(build(name, classes=4, input_shape=(1, 28, 28), seed=0), (1, 28, 28))
    chosen = rectified_layer(model)
    tail = LayerTail(model, chosen.name)
    assert layer in (None, chosen.name)
    assert float(tail.maps(torch.rand(3, 1, 28, 28)).min()) >= 0 and tail.replays
