"""A CNN wired by hand that fires on a bright 3x3 square: what each gradient method must say of it, in closed form."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from audit.explanation.run import explain_images
from audit.models.under_test import ModelUnderTest

TOP, LEFT = 4, 6
WINDOWS = {(0, 0): 9, (1, 0): 6, (-1, 0): 6, (0, 1): 6, (0, -1): 6}
"""The windows whose mean passes one half, by their offset from the square, and how many of its pixels each holds."""


class Detector(nn.Module):
    """Logit 0: the sum over all 3x3 windows of relu(mean - 1/2); logit 1: always 0."""

    def __init__(self) -> None:
        super().__init__()
        self.means = nn.Conv2d(1, 1, 3, padding=1)
        self.fires = nn.ReLU()
        self.head = nn.Linear(144, 2)
        with torch.no_grad():
            self.means.weight.fill_(1 / 9)
            self.means.bias.fill_(-0.5)  # type: ignore[union-attr]
            self.head.weight.copy_(torch.stack([torch.ones(144), torch.zeros(144)]))
            self.head.bias.zero_()

    def forward(self, images: Tensor) -> Tensor:
        scores: Tensor = self.head(self.fires(self.means(images)).flatten(1))
        return scores


@pytest.fixture
def detector() -> ModelUnderTest:
    return ModelUnderTest(Detector(), classes="ab", input_shape=(1, 12, 12), device="cpu")


@pytest.fixture
def image() -> Tensor:
    image = torch.zeros(1, 1, 12, 12)
    image[0, 0, TOP : TOP + 3, LEFT : LEFT + 3] = 1
    return image


def painted(by_window: dict[tuple[int, int], float]) -> Tensor:
    """Each window's number on all its pixels, summed."""
    painted = torch.zeros(1, 1, 12, 12)
    for (down, right), value in by_window.items():
        painted[0, 0, TOP + down : TOP + down + 3, LEFT + right : LEFT + right + 3] += value
    return painted


@pytest.mark.parametrize("method", ["saliency", "guided-backprop"])
def test_the_gradient_counts_the_windows_that_fire(detector: ModelUnderTest, image: Tensor, method: str) -> None:
    found = explain_images(detector, image, method=method, targets=0)
    assert torch.allclose(found.attributions, painted(dict.fromkeys(WINDOWS, 1 / 9)), atol=1e-6)


def test_input_times_gradient_is_that_on_the_square_alone(detector: ModelUnderTest, image: Tensor) -> None:
    found = explain_images(detector, image, method="input-x-gradient", targets=0)
    assert torch.allclose(found.attributions, painted(dict.fromkeys(WINDOWS, 1 / 9)) * image, atol=1e-6)


@pytest.mark.parametrize(("method", "tolerance"), [("deep-lift", 1e-6), ("integrated-gradients", 5e-3)])
def test_path_methods_share_each_windows_output_among_its_bright_pixels(
    detector: ModelUnderTest, image: Tensor, method: str, tolerance: float
) -> None:
    found = explain_images(detector, image, method=method, targets=0, baseline=0.0)
    shares = {offset: (held / 9 - 0.5) / held for offset, held in WINDOWS.items()}
    assert torch.allclose(found.attributions, painted(shares) * image, atol=tolerance)
    assert float(found.attributions.sum()) == pytest.approx(float(detector.logits(image)[0, 0]), abs=9 * tolerance)


@pytest.mark.parametrize("method", ["grad-cam", "grad-cam-plus-plus", "layer-cam"])
def test_class_activation_maps_peak_at_the_centre_of_the_square(
    detector: ModelUnderTest, image: Tensor, method: str
) -> None:
    found = explain_images(detector, image, method=method, targets=0)
    assert int(found.attributions.flatten().argmax()) == (TOP + 1) * 12 + LEFT + 1
