"""Planted-broken models: each hides its weakness from an attack in a known way. And the honest nets within."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import Tensor, nn

from audit.core.types import Batch
from audit.corruptions.digital import jpeg
from audit.models.under_test import ModelUnderTest


class Wrapped(nn.Module):
    """The honest net behind a front that changes the images and a back that changes the logits."""

    def __init__(
        self,
        net: nn.Module,
        front: Callable[[Tensor], Tensor] = lambda images: images,
        back: Callable[[Tensor], Tensor] = lambda logits: logits,
    ) -> None:
        super().__init__()
        self.net, self.front, self.back = net, front, back

    def forward(self, images: Tensor) -> Tensor:
        return self.back(self.net(self.front(images)))


class Counting(nn.Module):
    """Keeps a count of its calls in a buffer: a forward pass that is not a function."""

    calls: Tensor

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net
        self.register_buffer("calls", torch.zeros((), device="cpu"))

    def forward(self, images: Tensor) -> Tensor:
        self.calls += 1
        return self.net(images)


class AlwaysTraining(nn.Module):
    """Refuses eval mode: its batch norm takes its statistics from the batch at hand."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net, self.norm = net, nn.BatchNorm2d(1, track_running_stats=False)

    def train(self, mode: bool = True) -> AlwaysTraining:
        super().train(True)
        return self

    def forward(self, images: Tensor) -> Tensor:
        return self.net(0.3 * self.norm(images) + images)


class Purifying(nn.Module):
    """Moves each image towards what the net expects, by gradient, before it classifies it."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, images: Tensor) -> Tensor:
        with torch.enable_grad():
            leaf = images.detach().requires_grad_(True)
            (gradient,) = torch.autograd.grad(self.net(leaf).logsumexp(1).sum(), leaf)
        return self.net(images + 0.01 * gradient.sign())


def _quantised(images: Tensor) -> Tensor:
    return torch.round(images * 7) / 7


def _straight_through(images: Tensor) -> Tensor:
    return images + (_quantised(images) - images).detach()


def _half_detached(images: Tensor) -> Tensor:
    """The value is the image's, the gradient a blurred, shifted stranger's."""
    return images.detach() + 0.2 * (images - images.detach()).roll(3, -1)


def _nan_where_dark(images: Tensor) -> Tensor:
    return torch.where(images.mean((1, 2, 3), True) < 0.28, torch.nan, images)


BROKEN: dict[str, Callable[[nn.Module], nn.Module]] = {
    "logits x 100": lambda net: Wrapped(net, back=lambda z: 100 * z),
    "softmax output": lambda net: Wrapped(net, back=lambda z: z.softmax(1)),
    "quantised input": lambda net: Wrapped(net, front=_quantised),
    "quantised input, straight through": lambda net: Wrapped(net, front=_straight_through),
    "random noise layer": lambda net: Wrapped(net, front=lambda x: x + 0.1 * torch.randn_like(x)),
    "detached gradient": lambda net: Wrapped(net, front=lambda x: x.detach()),
    "misleading gradient": lambda net: Wrapped(net, front=_half_detached),
    "jpeg-like rounding": lambda net: Wrapped(net, front=lambda x: jpeg(x.clamp(0, 1), 75)),
    "saturated sigmoid": lambda net: Wrapped(net, back=lambda z: torch.sigmoid(20 * z)),
    "saturated tanh": lambda net: Wrapped(net, back=lambda z: torch.tanh(20 * z)),
    "batch statistics": AlwaysTraining,
    "counting calls": Counting,
    "purifying forward": Purifying,
    "dropout at test time": lambda net: Wrapped(net, back=lambda z: F.dropout(z, 0.2, training=True)),
    "NaN on dark images": lambda net: Wrapped(net, front=_nan_where_dark),
}


@cache
def digits() -> tuple[Tensor, Tensor]:
    """scikit-learn's 1797 scans: images (N, 1, 8, 8) in [0, 1] and labels."""
    bunch = load_digits()
    return torch.tensor(bunch.images, dtype=torch.float32)[:, None] / 16, torch.tensor(bunch.target)


def held_out(count: int = 48) -> Batch:
    images, labels = digits()
    return Batch(images[-count:], labels[-count:], tuple(f"digits/{i}" for i in range(count)))


@cache
def trained(hardened: bool) -> nn.Module:
    """A small CNN trained on the digits for a second or two: plainly, or on FGSM examples of eps 0.1."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = nn.Sequential(
            nn.Conv2d(1, 8, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(8, 16, 3),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(576, 10),
        )
        images, labels = (part[:-200] for part in digits())
        optimizer = torch.optim.Adam(net.parameters(), lr=8e-3)
        for _ in range(5):
            for index in torch.randperm(len(images)).split(100):
                x, y = images[index], labels[index]
                if hardened:
                    x = _fgsm(net, x, y)
                optimizer.zero_grad()
                F.cross_entropy(net(x), y).backward()
                optimizer.step()
    return net.eval()


def wrap(module: nn.Module) -> ModelUnderTest:
    return ModelUnderTest(module, classes=tuple("0123456789"), input_shape=(1, 8, 8), device="cpu")


def _fgsm(net: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    start = (images + 0.2 * torch.rand_like(images) - 0.1).requires_grad_(True)
    (gradient,) = torch.autograd.grad(F.cross_entropy(net(start), labels), start)
    return torch.clamp(images + (start + 0.125 * gradient.sign() - images).clamp(-0.1, 0.1), 0, 1).detach()
