"""What is nothing but rounding is an empty map; what is little but there is left as it was, to the bit."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from audit.core.registry import find, methods
from audit.explanation.run import explain_images
from audit.models.under_test import ModelUnderTest

QUICK: dict[str, dict[str, int]] = {"lime": {"samples": 60}, "rise": {"samples": 60}, "shap": {"samples": 60}}
FILLED_BY_OTHERS = ("lime", "shap", "rise", "occlusion")
"""Methods whose baseline is made of the image itself."""


def small(seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    features = nn.Sequential(nn.Conv2d(1, 6, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1))
    return nn.Sequential(features, nn.Flatten(), nn.Linear(6, 2)).eval()


def wrapped(net: nn.Module) -> ModelUnderTest:
    return ModelUnderTest(net.eval(), classes="ab", input_shape=(1, 20, 20), device="cpu")


def maps(net: nn.Module, images: Tensor, method: str, **options: object) -> Tensor | None:
    found = explain_images(wrapped(net), images, method=method, **QUICK.get(method, {}), **options)  # type: ignore[arg-type]
    return found.attributions


@pytest.mark.parametrize("method", FILLED_BY_OTHERS)
@pytest.mark.parametrize("grey", [0.0, 0.1, 0.5, 1.0])
def test_a_flat_picture_has_an_empty_map_and_its_neighbour_a_full_one(method: str, grey: float) -> None:
    images = torch.cat([torch.full((1, 1, 20, 20), grey), torch.rand(1, 1, 20, 20)])
    found = maps(small(), images, method, targets=0)
    assert found is not None
    assert float(found[0].abs().max()) == 0
    assert float(found[1].abs().max()) > 1e-5


class Constant(nn.Module):
    """The mean of a normalised map is its bias, whatever the image."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm, self.head = nn.Conv2d(1, 6, 3), nn.InstanceNorm2d(6), nn.Linear(6, 2)

    def forward(self, images: Tensor) -> Tensor:
        scores: Tensor = self.head(self.norm(self.conv(images)).mean((2, 3)))
        return scores


@pytest.mark.parametrize("method", ["saliency", "smooth-grad", "input-x-gradient", "integrated-gradients", "grad-cam"])
def test_the_gradient_of_a_constant_net_is_rounding(method: str) -> None:
    torch.manual_seed(0)
    found = maps(Constant(), torch.rand(2, 1, 20, 20), method)
    assert found is None or not bool(found.any())


@pytest.mark.parametrize("method", [method.name for method in methods("attribution")])
def test_maps_above_the_floor_are_left_to_the_bit(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from audit.explanation import run

    images = torch.rand(2, 1, 20, 20, generator=torch.Generator().manual_seed(1))
    found = maps(small(), images, method, targets=1)
    monkeypatch.setattr(run, "without_rounding", lambda method, model, images, spec, maps: maps)
    untouched = maps(small(), images, method, targets=1)
    assert (found is None) == (untouched is None)
    assert found is None or (bool(found.any()) and torch.equal(found, untouched))


def test_what_is_no_share_of_the_output_is_never_held_against_it() -> None:
    from audit.explanation.noise_floor import without_rounding

    method = find("attribution", "rise")
    shares = replace(method, facts={**method.facts, "unit": "share"})
    small_map = torch.full((1, 1, 20, 20), 1e-12)
    assert without_rounding(shares, wrapped(small()), torch.rand(1, 1, 20, 20), None, small_map) is small_map  # type: ignore[arg-type]
