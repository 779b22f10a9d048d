"""Nets whose mechanism is known, and axioms on nets that are drawn: what each family must and cannot see."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from audit.explanation.run import explain_images
from audit.models.under_test import ModelUnderTest

QUARTERS = (torch.arange(8) // 4)[:, None] * 2 + (torch.arange(8) // 4)[None]


def wired(hidden: list[list[float]], bias: list[float], output: list[float]) -> ModelUnderTest:
    """Logit 1 is `output` x relu(`hidden` x the means of the four quarters + `bias`)."""
    first, last = nn.Linear(4, len(hidden)), nn.Linear(len(hidden), 2, bias=False)
    with torch.no_grad():
        first.weight.copy_(torch.tensor(hidden))
        first.bias.copy_(torch.tensor(bias))
        last.weight.copy_(torch.tensor([[0.0] * len(hidden), output]))
    net = nn.Sequential(nn.AvgPool2d(4), nn.Flatten(), first, nn.ReLU(), last).eval()
    return ModelUnderTest(net, classes=("off", "on"), input_shape=(1, 8, 8), device="cpu")


def by_quarter(model: ModelUnderTest, method: str, **options: Any) -> list[float]:
    """The attribution of each quarter of a white image against a black one."""
    found = explain_images(model, torch.ones(1, 1, 8, 8), method=method, targets=1, baseline=0.0, **options)
    assert found.attributions is not None, found.reason
    return [float(found.attributions[0, 0][QUARTERS == number].sum()) for number in range(4)]


SEGMENTED = {"segments": QUARTERS}
ALL = {
    "integrated-gradients": {"steps": 64},
    "deep-lift": {},
    "expected-gradients": {"samples": 256},
    "shap": SEGMENTED,
}
PER_SEGMENT = {"shap": 16}
"""shap writes a segment's value on each of its 16 pixels."""


@pytest.mark.parametrize("method", ALL)
def test_saturation_is_shared_where_the_gradient_sees_nothing(method: str) -> None:
    """1 - relu(1 - first - second) is flat at the image: either quarter alone would do."""
    model = wired([[-1, -1, 0, 0], [0, 0, 0, 0]], [1, 1], [-1, 1])
    found = [value / PER_SEGMENT.get(method, 1) for value in by_quarter(model, method, **ALL[method])]
    assert found == pytest.approx([0.5, 0.5, 0, 0], abs=0.02)
    assert by_quarter(model, "saliency") == [0, 0, 0, 0]


@pytest.mark.parametrize("method", [*ALL, "saliency", "input-x-gradient", "occlusion"])
def test_what_cancels_gets_nothing_and_what_counts_gets_it(method: str) -> None:
    """relu(first + second) - relu(second): the second quarter cancels."""
    model = wired([[1, 1, 0, 0], [0, 1, 0, 0]], [0, 0], [1, -1])
    options: dict[str, Any] = {**ALL, "occlusion": {"window": 4, "stride": 4}}.get(method, {})
    first, *others = by_quarter(model, method, **options)
    assert first > 0
    assert others == pytest.approx([0, 0, 0], abs=1e-5 * first + 1e-6)


def test_occlusion_sees_a_conjunction_in_full_on_both_sides() -> None:
    """relu(first + second - 1) is 1, and 0 without either: each window takes all of it, twice the whole together."""
    model = wired([[1, 1, 0, 0]], [-1], [1])
    found = by_quarter(model, "occlusion", window=4, stride=4)
    assert [value / 16 for value in found] == pytest.approx([1, 1, 0, 0], abs=1e-6)


def drawn(seed: int) -> nn.Module:
    """A small net of two convolutions, its weights drawn; biases of a half keep its units from dying."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        first, second = nn.Conv2d(2, 4, 3, padding=1), nn.Conv2d(4, 4, 3)
        for layer in (first, second):
            nn.init.constant_(layer.bias, 0.5)  # type: ignore[arg-type]
        return nn.Sequential(first, nn.ReLU(), second, nn.ReLU(), nn.Flatten(), nn.Linear(144, 3)).eval()


def noise(seed: int) -> Tensor:
    return torch.rand(2, 2, 8, 8, generator=torch.Generator().manual_seed(seed))


@given(st.integers(0, 10_000))
@settings(max_examples=6, deadline=None)
@pytest.mark.parametrize(
    ("method", "options", "bound"),
    [("integrated-gradients", {}, 0.01), ("deep-lift", {}, 1e-4), ("shap", {}, 1e-4)],
)
def test_complete_methods_add_up_to_the_difference_of_the_outputs(
    method: str, options: dict[str, Any], bound: float, seed: int
) -> None:
    model = ModelUnderTest(drawn(seed), classes="abc", input_shape=(2, 8, 8), device="cpu")
    images = noise(seed)
    found = explain_images(model, images, method=method, targets=2, baseline=0.5, **options)
    difference = (model.logits(images) - model.logits(torch.full_like(images, 0.5)))[:, 2]
    assert found.attributions is not None
    total = found.attributions.flatten(1).sum(1)
    if found.segments is not None:
        sizes = [pieces.flatten().bincount()[pieces] for pieces in found.segments]
        total = (found.attributions[:, 0] / torch.stack(sizes)).flatten(1).sum(1)
    assert torch.allclose(total, difference, atol=bound * float(difference.abs().max()) + 1e-5)


@given(st.integers(0, 10_000))
@settings(max_examples=6, deadline=None)
@pytest.mark.parametrize("method", ["saliency", "integrated-gradients", "expected-gradients", "shap"])
def test_a_channel_the_net_never_reads_gets_nothing_and_twins_get_the_same(method: str, seed: int) -> None:
    """Dummy: the second channel's weights are zero. Symmetry: both halves of a mirrored net and image are alike."""
    net = drawn(seed)
    with torch.no_grad():
        net[0].weight[:, 1] = 0  # type: ignore[index, union-attr]
    model = ModelUnderTest(Mirrored(net), classes="abc", input_shape=(2, 8, 8), device="cpu")
    images = noise(seed)
    images = (images + images.flip(3)) / 2
    halves = torch.arange(8)[:, None] // 2 * 2 + (torch.arange(8)[None] // 4)
    options: dict[str, Any] = {"segments": halves} if method == "shap" else {}
    found = explain_images(model, images, method=method, targets=0, baseline=0.5, **options).attributions
    assert found is not None
    scale = float(found.abs().max()) + 1e-6
    if found.shape[1] == 2:
        assert float(found[:, 1].abs().max()) == 0
    assert float((found - found.flip(3)).abs().max()) <= 1e-4 * scale


class Mirrored(nn.Module):
    """The net's answers to the image and to its mirror image, added."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, images: Tensor) -> Tensor:
        both: Tensor = self.net(torch.cat([images, images.flip(3)]))
        first, second = both.chunk(2)
        return first + second
