"""A map lies over the part of the image that its layer sees, also where the forward crops first."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torchvision import transforms

from audit.explanation.positions import CHANNELS_FIRST
from audit.explanation.run import explain_images
from audit.explanation.seen_part import SeenPart, seen_part
from audit.models.under_test import ModelUnderTest

ROW, COLUMN, SIDE = 9, 6, 3


class Red(nn.Module):
    """The score of class 1 is how much red stands out, after some preparation of the images."""

    def __init__(self, preparation: nn.Module, *, stride: int = 1) -> None:
        super().__init__()
        self.preparation, self.conv = preparation, nn.Conv2d(3, 2, 3, padding=1, stride=stride, bias=False)
        with torch.no_grad():
            self.conv.weight.zero_()
            self.conv.weight[0, 0], self.conv.weight[0, 1] = 1 / 9, -1 / 9
            self.conv.weight[1] = 0.01

    def forward(self, images: Tensor) -> Tensor:
        features = self.conv(self.preparation(images)).relu()
        pooled = nn.functional.max_pool2d(features, 2).mean((2, 3))
        return torch.stack([pooled[:, 1], pooled[:, 0], -pooled[:, 1]], 1)


def model(preparation: nn.Module, *, stride: int = 1) -> ModelUnderTest:
    return ModelUnderTest(Red(preparation, stride=stride).eval(), classes="abc", input_shape=(3, 32, 32), device="cpu")


def picture() -> Tensor:
    image = 0.3 + 0.02 * torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    image[:, 0, ROW : ROW + SIDE, COLUMN : COLUMN + SIDE] = 0.95
    image[:, 1, ROW : ROW + SIDE, COLUMN : COLUMN + SIDE] = 0.05
    return image


PREPARATIONS: dict[str, nn.Module] = {
    "crop": transforms.CenterCrop(22),
    "resize and crop": nn.Sequential(transforms.Resize(36), transforms.CenterCrop(28)),
    "nothing": nn.Identity(),
    "enlarged": nn.Upsample(scale_factor=2, mode="bilinear"),
}


@pytest.mark.parametrize("method", ["grad-cam", "grad-cam-plus-plus", "layer-cam"])
@pytest.mark.parametrize("preparation", PREPARATIONS)
def test_the_map_of_a_net_that_crops_lies_where_the_net_looks(preparation: str, method: str) -> None:
    found = explain_images(model(PREPARATIONS[preparation]), picture(), method=method, targets=1)
    assert found.attributions is not None and found.attributions.shape == (1, 1, 32, 32)
    row, column = divmod(int(found.attributions.flatten().argmax()), 32)
    assert max(abs(row - ROW - 1), abs(column - COLUMN - 1)) <= 1


def test_what_a_layer_sees_is_measured() -> None:
    assert seen_part(model(transforms.CenterCrop(22)), "conv", CHANNELS_FIRST) == SeenPart(5, 27, 5, 27)


def test_a_border_of_less_than_a_position_does_not_move_a_map() -> None:
    cropped = model(transforms.CenterCrop(30), stride=2)
    assert seen_part(cropped, "conv", CHANNELS_FIRST) == SeenPart(0, 32, 0, 32)
