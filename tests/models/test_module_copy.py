"""Copies of modules that deepcopy refuses, or would copy by halves."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from audit.core.errors import ModelError
from audit.models.module_copy import copy_module, copy_of

IMAGES = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))


class Net(nn.Module):
    """A small net that keeps its last features."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.head = nn.Linear(4, 2)

    def forward(self, images: Tensor) -> Tensor:
        features = self.conv(images).relu()
        self.features = [features, {"mean": features.mean()}]
        return self.head(features.mean((2, 3)))  # type: ignore[no-any-return]


def cached() -> nn.Module:
    net = Net()
    net(IMAGES)
    return net


def normed(norm: Callable[..., Any]) -> nn.Module:
    net = Net()
    net.conv = norm(net.conv)
    net.train()(IMAGES)
    return net.eval()


def holding(**attributes: Any) -> nn.Module:
    net = Net()
    for name, value in attributes.items():
        setattr(net, name, value)
    return net


def with_lambda() -> nn.Module:
    net = Net()
    forward = net.forward
    net.forward = lambda images: 2 * forward(images)  # type: ignore[method-assign, assignment]
    return net


def with_partial() -> nn.Module:
    net = Net()
    net.forward = functools.partial(Net.forward, net)  # type: ignore[method-assign]
    return net


def script() -> nn.Module:
    layers = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))
    return torch.jit.script(layers)  # type: ignore[no-any-return, no-untyped-call]


MODULES: dict[str, Callable[[], nn.Module]] = {
    "cached features": cached,
    "old weight norm": lambda: normed(nn.utils.weight_norm),
    "old spectral norm": lambda: normed(nn.utils.spectral_norm),
    "weight norm": lambda: normed(nn.utils.parametrizations.weight_norm),
    "spectral norm": lambda: normed(nn.utils.parametrizations.spectral_norm),
    "a lock": lambda: holding(lock=threading.Lock()),
    "a lambda": with_lambda,
    "a partial": with_partial,
    "a list of itself": lambda: (net := Net(), setattr(net, "owner", [net]))[0],
    "script": script,
    "data parallel": lambda: nn.DataParallel(Net()),
    "averaged": lambda: torch.optim.swa_utils.AveragedModel(Net()),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", MODULES)
def test_a_copy_answers_alike_and_has_weights_of_its_own(name: str) -> None:
    net = MODULES[name]()
    expected = net(IMAGES)
    copied = copy_module(net)
    assert torch.allclose(copied(IMAGES), expected, atol=1e-6)
    assert all(parameter.is_leaf for parameter in copied.parameters())
    with torch.no_grad():
        for parameter in copied.parameters():
            parameter.zero_()
    again = copied(IMAGES).detach()
    assert torch.equal(again, torch.zeros_like(again)) or "norm" in name
    assert torch.allclose(net(IMAGES), expected, atol=1e-6)


def test_a_copied_hook_writes_to_a_list_of_its_own_and_backward_hooks_stay_behind() -> None:
    kept: list[Tensor] = []
    net = Net()
    net.conv.register_forward_hook(lambda layer, inputs, output: kept.append(output))
    net.conv.register_full_backward_hook(lambda layer, before, after: (torch.zeros_like(IMAGES),))
    leaf = IMAGES.clone().requires_grad_(True)
    copy_module(net)(leaf).sum().backward()
    assert not kept and leaf.grad is not None and float(leaf.grad.abs().sum()) > 0
    assert len(net.conv._backward_hooks) == 1


def test_what_cannot_be_copied_is_shared_and_named() -> None:
    lock, numbers = threading.Lock(), (number for number in range(3))
    copied, shared = copy_of(holding(lock=lock, numbers=numbers, name="net"))
    assert shared == ("lock", "numbers") and copied.lock is lock


def test_a_module_that_refuses_to_be_copied_is_refused_with_its_reason() -> None:
    class Uncopyable(Net):
        def __deepcopy__(self, memo: object) -> None:
            raise RuntimeError("I am unique")

    with pytest.raises(ModelError, match=r"Uncopyable.*I am unique.*copy\.deepcopy"):
        copy_module(Uncopyable())
