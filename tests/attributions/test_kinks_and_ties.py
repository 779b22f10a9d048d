"""Where gradients are no longer one number, at kinks of ReLUs and ties of maxima, maps still hold their exact sums."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import audit
from audit.attributions.occlusion import windows

SIDE = 5
PIXELS = SIDE * SIDE


class Kinks(nn.Module):
    """Two classes; the first sums ReLUs of pixels, each at its own threshold."""

    def __init__(self, units: int, seed: int) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.weight = nn.Parameter(torch.randn(units, PIXELS, generator=generator))
        self.threshold = nn.Parameter(torch.rand(units, generator=generator) - 0.5)
        self.share = nn.Parameter(torch.randn(units, generator=generator))

    def forward(self, images: Tensor) -> Tensor:
        inner = images.flatten(1) @ self.weight.T - self.threshold
        return torch.stack([inner.relu() @ self.share, images.new_zeros(len(images))], 1)


@torch.no_grad()
def exact_integral(net: Kinks, image: Tensor) -> Tensor:
    """Of the gradient along the line from black: each ReLU counts for the part of the line on which it is on."""
    rise = (net.weight @ image.flatten()).double()
    threshold = net.threshold.double()
    crossing = (threshold / rise).clamp(0, 1)
    on = torch.where(rise > 0, 1 - crossing, crossing)
    return (image.flatten().double() * ((net.share.double() * on) @ net.weight.double())).view(SIDE, SIDE)


def model_of(net: nn.Module) -> audit.ModelUnderTest:
    return audit.wrap(net.eval(), classes=2, input_shape=(1, SIDE, SIDE), device="cpu", outputs="logits")


@pytest.mark.parametrize("units", [1, 3, 40])
def test_integrated_gradients_are_the_exact_integral_over_kinks(units: int) -> None:
    images = torch.rand(4, 1, SIDE, SIDE, generator=torch.Generator().manual_seed(units))
    net = Kinks(units, seed=units)
    result = audit.explain(
        model_of(net), images, targets=torch.zeros(4, dtype=torch.int64), method="integrated-gradients"
    )
    assert result.attributions is not None
    for row, image in zip(result.attributions, images, strict=True):
        exact = exact_integral(net, image)
        assert float((row[0].double() - exact).abs().sum()) <= 0.03 * float(exact.abs().sum()) + 1e-6


def test_a_kink_at_the_image_itself_and_at_the_first_midpoint_costs_nothing_more() -> None:
    image = torch.full((1, 1, SIDE, SIDE), 0.5)
    net = Kinks(2, seed=3)
    with torch.no_grad():
        rise = net.weight @ image.flatten()
        net.threshold.copy_(torch.stack([rise[0], rise[1] / 2]))  # the end of the line, and its middle
    result = audit.explain(
        model_of(net), image, targets=torch.zeros(1, dtype=torch.int64), method="integrated-gradients"
    )
    assert result.attributions is not None
    exact = exact_integral(net, image[0])
    assert float((result.attributions[0, 0].double() - exact).abs().sum()) <= 0.03 * float(exact.abs().sum()) + 1e-6


class Maxima(nn.Module):
    """Two classes of 2x2 maxima over windows that a flat picture ties."""

    def __init__(self) -> None:
        super().__init__()
        self.pool, self.flatten, self.head = nn.MaxPool2d(2), nn.Flatten(), nn.Linear(4, 2)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.head(self.flatten(self.pool(images)))
        return logits


@pytest.mark.parametrize("method", ["input-x-gradient", "integrated-gradients", "deep-lift", "lrp", "shap"])
def test_a_flat_picture_shares_its_logit_out_whole_though_every_maximum_is_tied(method: str) -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        net = Maxima().eval()
    nn.init.zeros_(net.head.bias)
    image = torch.full((1, 1, 4, 4), 0.75)
    model = audit.wrap(net, classes=2, input_shape=(1, 4, 4), device="cpu", outputs="logits")
    segments = torch.arange(16).view(4, 4)
    settings = {"samples": 4000} if method == "shap" else {}
    result = audit.explain(
        model,
        image,
        targets=torch.zeros(1, dtype=torch.int64),
        method=method,
        segments=segments,
        baseline=0.0,
        **settings,
    )
    assert result.attributions is not None, result.reason
    total, logit = float(result.attributions.sum()), float(net(image)[0, 0].detach())
    assert total == pytest.approx(logit, abs=1e-4)
    # Of each window, the exact share of its class weight, whichever of its four pixels is given it.
    shares = result.attributions[0, 0].view(2, 2, 2, 2).sum((1, 3)).flatten()
    tolerance = 0.05 if method == "shap" else 1e-5
    assert torch.allclose(shares, net.head.weight[0].detach() * 0.75, atol=tolerance)


@pytest.mark.parametrize(("height", "width"), [(5, 7), (9, 4), (28, 28), (33, 17), (1, 13)])
@pytest.mark.parametrize(("window", "stride"), [(1, 1), (3, 2), (4, 3), (5, 5), (2, 3)])
def test_windows_of_odd_sizes_lie_inside_and_cover_every_pixel(
    height: int, width: int, window: int, stride: int
) -> None:
    masks = windows(height, width, min(window, height, width), min(stride, window, height, width))
    masks = masks.view(len(masks), height, width)
    assert bool(masks.any(0).all())
    rows, columns = masks.any(2).sum(1), masks.any(1).sum(1)
    assert rows.unique().numel() == columns.unique().numel() == 1  # none is cut off at the border
    assert torch.equal(masks.sum((1, 2)), rows * columns)
