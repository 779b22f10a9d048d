"""LRP: known answers, conservation, and refusal where it fails."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn

from audit.attributions import lrp as room
from audit.explanation.run import explain_images
from audit.models.under_test import ModelUnderTest

IMAGES = torch.rand(4, 1, 8, 8, generator=torch.Generator().manual_seed(3))


class Residual(nn.Module):
    """Batch normalisation, a residual add, average pooling: what breaks hook-based LRP."""

    def __init__(self, bias: bool = True) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 6, 3, padding=1, bias=bias)
        self.norm = nn.BatchNorm2d(6) if bias else nn.Identity()
        self.inner = nn.Conv2d(6, 6, 3, padding=1, bias=bias)
        self.relu = nn.ReLU()
        self.pool = nn.AdaptiveAvgPool2d(2)
        self.head = nn.Linear(24, 3, bias=bias)

    def forward(self, images: Tensor) -> Tensor:
        features = self.relu(self.norm(self.stem(images)))
        features = self.pool(self.relu(features + self.inner(features)))
        scores: Tensor = self.head(torch.flatten(features, 1))
        return scores


def wrapped(bias: bool = True) -> ModelUnderTest:
    torch.manual_seed(1)
    net = Residual(bias)
    if bias:
        net.norm.running_mean.uniform_(-0.2, 0.2)  # type: ignore[union-attr, operator]
        net.norm.running_var.uniform_(0.5, 2)  # type: ignore[union-attr, operator]
    return ModelUnderTest(net, classes="abc", input_shape=(1, 8, 8), device="cpu")


def test_without_biases_and_gamma_it_is_input_times_gradient() -> None:
    model = wrapped(bias=False)
    found = explain_images(model, IMAGES, method="lrp", targets=1, gamma=0.0)
    known = explain_images(model, IMAGES, method="input-x-gradient", targets=1)
    assert torch.allclose(found.attributions, known.attributions, atol=1e-5)
    assert found.quality["bias_share"].tolist() == [0.0] * 4


@pytest.mark.parametrize("gamma", [0.0, 0.25, 1.0])
def test_pixels_and_biases_hold_the_whole_logit(gamma: float) -> None:
    model = wrapped()
    found = explain_images(model, IMAGES, method="lrp", targets=2, gamma=gamma)
    assert found.attributions is not None, found.reason
    logits = model.logits(IMAGES)[:, 2]
    held = found.attributions.flatten(1).sum(1) + found.quality["bias_share"] * logits
    assert torch.allclose(held, logits, rtol=1e-3)
    assert float(found.quality["conservation_error"].max()) < 1e-3


def test_gamma_favours_what_speaks_for_the_class() -> None:
    model = wrapped()

    def negative(gamma: float) -> float:
        maps = explain_images(model, IMAGES, method="lrp", targets=2, gamma=gamma).attributions
        return float(maps.clamp(max=0).abs().sum() / maps.abs().sum())

    assert negative(10.0) < negative(0.0)


@pytest.mark.parametrize(("share", "said"), [(0.5, "%"), (float("inf"), "∞"), (float("nan"), "∞")])
def test_lost_relevance_is_refused(share: float, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    honest = room.propagate_relevance

    def leaking(*arguments: object) -> object:
        found = honest(*arguments)  # type: ignore[arg-type]
        return type(found)(found.at_input * share, found.in_biases)

    monkeypatch.setattr(room, "propagate_relevance", leaking)
    found = explain_images(wrapped(), IMAGES, method="lrp", targets=2)
    assert found.status == "not_applicable"
    assert "does not conserve relevance" in str(found.reason) and said in str(found.reason)


class Among(Residual):
    """The scores among other tensors."""

    def __init__(self, form: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.form = form

    def forward(self, images: Tensor) -> Any:
        return self.form(super().forward(images))


class Answer(NamedTuple):
    logits: Tensor
    other: Tensor


FORMS: dict[str, Callable[[Tensor], Any]] = {
    "dictionary": lambda scores: {"probabilities": scores.softmax(1), "logits": scores},
    "tuple": lambda scores: (scores[:, :2], scores),
    "nested": lambda scores: {"heads": [scores, {"other": scores.mean()}]},
    "named tuple": lambda scores: Answer(scores, scores.softmax(1)),
    "dictionary of one": lambda scores: {"scores": scores},
}


@pytest.mark.parametrize("method", ["lrp", "deep-lift"])
@pytest.mark.parametrize("form", FORMS)
def test_scores_among_other_tensors_are_divided_alike(form: str, method: str) -> None:
    torch.manual_seed(1)
    net, plain = Among(FORMS[form]).eval(), Residual().eval()
    plain.load_state_dict(net.state_dict())
    maps = [
        explain_images(
            ModelUnderTest(one, classes="abc", input_shape=(1, 8, 8), device="cpu"), IMAGES, method=method, targets=2
        ).attributions
        for one in (net, plain)
    ]
    assert maps[0] is not None and maps[1] is not None and torch.allclose(maps[0], maps[1], atol=1e-6)
