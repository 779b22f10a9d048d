"""Occlusion and RISE against captum, slow twins and a model whose one pixel is known."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from audit.attributions.occlusion import windows
from audit.core.seeding import Generators
from audit.core.types import Batch
from audit.explanation.run import explain_images
from audit.masking.soft_masks import draw_soft_masks
from audit.models.under_test import ModelUnderTest


def soft_masks(generators: Generators, count: int, size: tuple[int, int], cells: int, shown: float) -> Tensor:
    """Masks of one image, float32 (count, H, W) in [0, 1]."""
    return draw_soft_masks(generators, count, size, cells, shown).enlarge(slice(None), torch.empty(count, *size))


class OnePixel(nn.Module):
    """Logit 1 is the pixel (2, 9)."""

    def forward(self, images: Tensor) -> Tensor:
        pixel = images[:, 0, 2, 9]
        return torch.stack([torch.zeros_like(pixel), pixel], 1)


def one_pixel() -> ModelUnderTest:
    return ModelUnderTest(OnePixel(), classes=("off", "on"), input_shape=(1, 12, 12), device="cpu")


@pytest.mark.parametrize(("window", "stride"), [(3, 3), (4, 2), (12, 1)])
def test_occlusion_equals_captums(cnn_model: ModelUnderTest, cnn_batch: Batch, window: int, stride: int) -> None:
    from captum.attr import Occlusion

    images, targets = cnn_batch.images[:3], cnn_batch.labels[:3]
    theirs = Occlusion(cnn_model.module).attribute(
        images, (1, window, window), strides=(1, stride, stride), target=targets, baselines=0.1
    )
    found = explain_images(
        cnn_model, images, method="occlusion", targets=targets, window=window, stride=stride, baseline=0.1
    )
    assert torch.allclose(found.attributions, theirs.float(), atol=1e-6)


@pytest.mark.parametrize(
    ("size", "window", "stride"), [((7, 9), 3, 2), ((8, 8), 8, 3), ((5, 6), 1, 1), ((10, 7), 4, 3)]
)
def test_windows_reach_every_pixel(size: tuple[int, int], window: int, stride: int) -> None:
    covers = windows(*size, window, stride)
    assert bool(covers.any(0).all())
    assert set(covers.flatten(1).sum(1).tolist()) == {window * window}
    assert len(covers.unique(dim=0)) == len(covers)


def test_occlusion_of_one_pixel_is_its_drop_where_windows_hold_it() -> None:
    found = explain_images(
        one_pixel(), torch.ones(1, 1, 12, 12), method="occlusion", targets=1, baseline=0.0, window=1, stride=1
    )
    expected = torch.zeros(12, 12)
    expected[2, 9] = 1
    assert torch.equal(found.attributions[0, 0], expected)


def test_rise_finds_the_one_pixel() -> None:
    image = torch.ones(1, 1, 12, 12)
    found = explain_images(one_pixel(), image, method="rise", targets=1, baseline=0.0, samples=2000).attributions[0, 0]
    row, column = divmod(int(found.argmax()), 12)
    assert abs(row - 2) <= 1 and abs(column - 9) <= 1
    assert float(found[2, 9]) > 5 * float(found[8:, :5].abs().max())


def test_rise_is_the_weighted_mean_written_plainly(cnn_model: ModelUnderTest, cnn_batch: Batch) -> None:
    image, ids = cnn_batch.images[:1], cnn_batch.ids[:1]
    cnn_model.layout.batch_size = 7
    found = explain_images(cnn_model, image, method="rise", targets=2, ids=ids, samples=30, baseline=0.3)
    generators = Generators.of(ids, seed=0, purpose="attribution/rise", device="cpu")
    masks = soft_masks(generators, 30, (12, 12), 7, 0.5)
    outputs = torch.stack([cnn_model.logits(0.3 + mask * (image - 0.3))[0, 2] for mask in masks]).double()
    expected = (outputs[:, None, None] * masks).sum(0) / masks.double().sum(0) - outputs.mean()
    assert torch.allclose(found.attributions[0, 0].double(), expected, atol=1e-6)


def test_soft_masks_show_half_everywhere() -> None:
    generators = Generators.of("a", seed=0, purpose="t", device="cpu")
    masks = soft_masks(generators, 3000, (13, 17), 5, 0.5)
    assert masks.shape == (3000, 13, 17)
    assert float(masks.min()) >= 0 and float(masks.max()) <= 1
    assert float((masks.mean(0) - 0.5).abs().max()) < 0.05
