"""Sums and activations written into their input: maps are those of the same net written without."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from audit.core.errors import NotApplicable
from audit.explanation.faithful_copy import traced_copy
from audit.explanation.run import explain_images
from audit.explanation.traced_net import with_module_activations
from audit.models.under_test import ModelUnderTest


def plain(features: Tensor, skipped: Tensor) -> Tensor:
    return functional.relu(features + skipped)


def add_bare(features: Tensor, skipped: Tensor) -> Tensor:
    features.add_(skipped)
    features.relu_()
    return features


def add_operator(features: Tensor, skipped: Tensor) -> Tensor:
    features += skipped
    functional.relu(features, inplace=True)
    return features


def add_into(features: Tensor, skipped: Tensor) -> Tensor:
    torch.add(features, skipped, out=features)
    torch.relu_(features)
    return features


def add_named(features: Tensor, skipped: Tensor) -> Tensor:
    features.add_(skipped)
    functional.relu_(features)
    return features


def clamp(features: Tensor, skipped: Tensor) -> Tensor:
    return (features + skipped).clamp(min=0)


def clamp_bare(features: Tensor, skipped: Tensor) -> Tensor:
    features.add_(skipped).clamp_(0)
    return features


def clamp_min(features: Tensor, skipped: Tensor) -> Tensor:
    return torch.clamp_min(skipped + features, 0)


def threshold(features: Tensor, skipped: Tensor) -> Tensor:
    return functional.threshold(features.add(skipped), 0.0, 0.0)


def minus_minus(features: Tensor, skipped: Tensor) -> Tensor:
    features.sub_(-1 * skipped)
    return features.clip(0)


class Block(nn.Module):
    """A residual net of one block; `join` adds the skipped features and rectifies."""

    def __init__(self, join: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.join = join
        self.stem, self.inner = nn.Conv2d(1, 6, 3, padding=1), nn.Conv2d(6, 6, 3, padding=1)
        self.active, self.head = nn.ReLU(inplace=True), nn.Linear(6 * 16, 3)

    def forward(self, images: Tensor) -> Tensor:
        features = self.stem(images)
        self.active(features)
        joined = self.join(self.inner(features), features)
        scores: Tensor = self.head(functional.max_pool2d(joined, 2).flatten(1))
        return scores


IMAGES = torch.rand(3, 1, 8, 8, generator=torch.Generator().manual_seed(3))
JOINS = (add_bare, add_operator, add_named, clamp, clamp_bare, clamp_min, threshold, minus_minus)


def wrapped(net: nn.Module) -> ModelUnderTest:
    return ModelUnderTest(net, classes="abc", input_shape=(1, 8, 8), device="cpu")


@pytest.mark.parametrize("join", JOINS, ids=lambda join: str(join.__name__))
@pytest.mark.parametrize("method", ["lrp", "deep-lift", "guided-backprop"])
def test_how_a_sum_and_a_rectifier_are_written_does_not_matter(method: str, join: Callable[..., Tensor]) -> None:
    torch.manual_seed(0)
    one, other = Block(plain), Block(join)
    other.load_state_dict(one.state_dict())
    expected, found = (explain_images(wrapped(net), IMAGES, method=method, targets=1) for net in (one, other))
    assert expected.attributions is not None and found.attributions is not None, found.reason
    scale = float(expected.attributions.abs().max())
    assert float((found.attributions - expected.attributions).abs().max()) <= 1e-4 * scale


def test_a_result_written_into_an_argument_is_read_by_what_follows() -> None:
    torch.manual_seed(0)
    one, other = Block(plain).eval(), Block(add_into).eval()
    other.load_state_dict(one.state_dict())
    with torch.no_grad():
        assert torch.allclose(with_module_activations(other)(IMAGES), one(IMAGES), atol=1e-6)


class ThroughAView(Block):
    """The sum is written into a view, and the features are read again whole."""

    def forward(self, images: Tensor) -> Tensor:
        features = self.inner(self.stem(images))
        features[:, :3].add_(5.0)
        scores: Tensor = self.head(functional.max_pool2d(features, 2).flatten(1))
        return scores


@pytest.mark.parametrize("method", ["lrp", "deep-lift"])
def test_a_copy_that_answers_otherwise_is_refused(method: str) -> None:
    torch.manual_seed(0)
    model = wrapped(ThroughAView(plain))
    with pytest.raises(NotApplicable, match="answers otherwise than the net"):
        traced_copy(model, IMAGES)
    assert explain_images(model, IMAGES, method=method).status == "not_applicable"


@pytest.mark.parametrize("other", [lambda y: torch.where(y > 0, y, torch.zeros_like(y)), lambda y: functional.relu6(y)])
def test_half_guided_maps_are_refused(other: Callable[[Tensor], Tensor]) -> None:
    found = explain_images(wrapped(Block(lambda a, b: other(a + b))), IMAGES, method="guided-backprop")
    assert found.status == "not_applicable" and "some of the gradient would be guided" in str(found.reason)


def test_a_deep_lift_map_that_misses_the_difference_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    from audit.attributions import deep_lift as room

    honest = room._lift
    monkeypatch.setattr(room, "_lift", lambda *arguments: (honest(*arguments)[0] * 0.5, honest(*arguments)[1]))
    found = explain_images(wrapped(Block(plain)), IMAGES, method="deep-lift", targets=1)
    assert found.status == "not_applicable" and "misses up to 50%" in str(found.reason)
