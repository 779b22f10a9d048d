"""Each building block against an independent implementation or a closed form."""

from __future__ import annotations

import io

import numpy as np
import pytest
import scipy.ndimage
import skimage.color
import skimage.data
import torch
from PIL import Image
from torch import Tensor

from audit.core.errors import NotApplicable
from audit.core.seeding import Generators
from audit.corruptions import blur, digital, filters, weather
from audit.corruptions.colour import brightened, grey, saturated
from audit.corruptions.digital import jpeg
from audit.corruptions.weather import _refine, plasma


def generators(count: int) -> Generators:
    return Generators.of(map(str, range(count)), seed=0, purpose="test", device="cpu")


@pytest.fixture(scope="module")
def photograph() -> Tensor:
    """A real photograph, 90 x 120 in colour, on the 8-bit grid."""
    pixels = Image.fromarray(skimage.data.coffee()).resize((120, 90), Image.Resampling.LANCZOS)
    return torch.from_numpy(np.array(pixels)).permute(2, 0, 1)[None].float() / 255


def as_pillow(image: Tensor) -> Image.Image:
    levels = (image * 255).round().byte()
    return Image.fromarray(levels[0].numpy() if len(image) == 1 else levels.permute(1, 2, 0).numpy())


def from_pillow(image: Image.Image) -> Tensor:
    pixels = torch.from_numpy(np.array(image)).float() / 255
    return pixels[None] if pixels.ndim == 2 else pixels.permute(2, 0, 1)


@pytest.mark.parametrize("sigma", [0.4, 1.0, 3.0])
def test_smoothing_is_scipys_gaussian_filter(photograph: Tensor, sigma: float) -> None:
    expected = scipy.ndimage.gaussian_filter(photograph.numpy(), (0, 0, sigma, sigma), mode="nearest")
    np.testing.assert_allclose(filters.smooth(photograph, sigma).numpy(), expected, atol=2e-6)


def test_large_kernels_give_what_a_direct_convolution_gives(photograph: Tensor) -> None:
    kernel = blur._disk(6.0, 0.5, photograph)
    assert kernel.numel() > filters._DIRECT
    expected = scipy.ndimage.convolve(photograph[0, 0].numpy(), kernel.numpy(), mode="nearest")
    np.testing.assert_allclose(filters.convolve(photograph, kernel)[0, 0].numpy(), expected, atol=2e-6)


@pytest.mark.parametrize("quality", [80, 50, 25, 7])
def test_jpeg_is_pillows_but_for_coefficients_at_a_rounding_tie(photograph: Tensor, quality: int) -> None:
    file = io.BytesIO()
    as_pillow(photograph[0]).save(file, "JPEG", quality=quality)
    difference = (jpeg(photograph, quality)[0] - from_pillow(Image.open(file))).abs() * 255
    lost = (photograph[0] - from_pillow(Image.open(file))).abs().mean() * 255
    assert difference.mean() < 0.25 * lost and (difference > 12).double().mean() < 0.01


@pytest.mark.parametrize("quality", [80, 25])
def test_grey_jpeg_is_pillows_but_for_coefficients_at_a_rounding_tie(photograph: Tensor, quality: int) -> None:
    file = io.BytesIO()
    image = (grey(photograph) * 255).round() / 255
    as_pillow(image[0]).save(file, "JPEG", quality=quality)
    difference = (jpeg(image, quality)[0] - from_pillow(Image.open(file))).abs() * 255
    assert (difference > 1.01).double().mean() < 0.08 and difference.max() < 16


def test_pixelation_is_pillows_box_filter() -> None:
    image = torch.rand(1, 1, 224, 224, generator=torch.Generator().manual_seed(0))
    image = (image * 255).round() / 255
    small = as_pillow(image[0]).resize((67, 67), Image.Resampling.BOX)
    expected = from_pillow(small.resize((224, 224), Image.Resampling.BOX))
    difference = (digital.pixelate(image, 4, generators(1))[0] - expected).abs() * 255
    assert (difference <= 1).double().mean() > 0.99


@pytest.mark.parametrize("by", [0.1, 0.5])
def test_brightening_lifts_the_value_of_hsv(photograph: Tensor, by: float) -> None:
    hsv = skimage.color.rgb2hsv(photograph[0].permute(1, 2, 0).numpy())
    hsv[..., 2] = (hsv[..., 2] + by).clip(0, 1)
    expected = torch.from_numpy(skimage.color.hsv2rgb(hsv)).permute(2, 0, 1).float()
    torch.testing.assert_close(brightened(photograph, by)[0], expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("factor, offset", [(0.3, 0.0), (2.0, 0.1), (20.0, 0.2)])
def test_saturating_stretches_the_saturation_of_hsv(photograph: Tensor, factor: float, offset: float) -> None:
    photograph = photograph.clone()
    photograph[..., :10, :10] = 0.4  # grey, whose hue is 0 by convention
    hsv = skimage.color.rgb2hsv(photograph[0].permute(1, 2, 0).numpy())
    hsv[..., 1] = (hsv[..., 1] * factor + offset).clip(0, 1)
    expected = torch.from_numpy(skimage.color.hsv2rgb(hsv)).permute(2, 0, 1).float()
    torch.testing.assert_close(saturated(photograph, factor, offset)[0], expected, atol=1e-5, rtol=0)


def test_saturation_of_grey_images_is_not_applicable() -> None:
    with pytest.raises(NotApplicable, match="colour"):
        digital.saturate(torch.rand(1, 1, 28, 28), 3, generators(1))


def test_contrast_shrinks_deviations_by_the_published_factor(photograph: Tensor) -> None:
    small = photograph[..., :64, :64]
    changed = digital.contrast(small, 5, generators(1))
    torch.testing.assert_close(changed.std((2, 3)), 0.15 * small.std((2, 3)), rtol=1e-4, atol=0)


def test_motion_blur_spreads_a_point_over_its_published_length_to_one_side() -> None:
    image = torch.zeros(8, 1, 224, 224)
    image[:, :, 112, 112] = 1
    blurred = blur.motion_blur(image, 1, generators(8))
    columns = blurred.sum((1, 2))
    assert torch.allclose(blurred.sum((1, 2, 3)), torch.ones(8), atol=1e-4)
    assert (columns[:, 113:] == 0).all(), "one-sided"
    reach = 112 - (columns > 0).int().argmax(1)
    assert (reach >= 13).all() and (reach <= 20).all(), "21 pixels within 45 degrees of the horizontal"
    assert reach.unique().numel() > 1, "each image has its own direction"


def test_zooming_magnifies_about_the_centre() -> None:
    ramp = torch.linspace(-1, 1, 65).expand(1, 1, 65, 65)
    torch.testing.assert_close(filters.zoomed(ramp, 2.0), ramp / 2, atol=1e-6, rtol=0)


def test_an_undisplaced_warp_changes_nothing(photograph: Tensor) -> None:
    rows, columns = (p[None] for p in torch.broadcast_tensors(*filters.positions(photograph)))
    torch.testing.assert_close(filters.warped(photograph, rows, columns), photograph, atol=1e-5, rtol=0)
    assert torch.equal(filters.picked(photograph, rows, columns), photograph)


def test_the_affine_part_moves_three_points_no_farther_than_asked() -> None:
    image = torch.zeros(16, 1, 60, 60)
    rows, columns = digital._affine(image, 3.0, generators(16))
    away = torch.stack([rows[:, 50, 50] - 50, columns[:, 50, 50] - 50]).abs()
    assert away.max() < 5 and away.mean() > 0.5
    still = digital._affine(image, 0.0, generators(16))
    torch.testing.assert_close(still[0][0], torch.arange(60.0)[:, None].expand(60, 60), atol=1e-3, rtol=0)


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 40, 70)])
def test_plasma_fills_the_unit_range_and_is_smoother_when_it_decays_faster(shape) -> None:
    image = torch.zeros(6, *shape)
    rough, fine = (plasma(image, decay, generators(6)) for decay in (1.3, 3.0))
    assert rough.shape == (6, 1, *shape[1:]) and rough.min() >= 0 and rough.max() <= 1
    steps = [(p[..., 1:] - p[..., :-1]).abs().mean().item() for p in (rough, fine)]
    assert steps[0] > 2 * steps[1]


def test_the_first_midpoint_of_a_plasma_wobbles_by_its_amplitude_alone() -> None:
    field = torch.zeros(400, 4, 4)
    _refine(field, 4, 100.0, generators(400))
    assert field[:, 2, 2].abs().max() <= 100
    assert field[:, 2, 2].std().item() == pytest.approx(100 / 3**0.5, rel=0.1)
    assert (field[:, 0, 0] == 0).all() and (field[:, 1] == 0).all(), "only the scale asked for is filled"


def test_spatter_covers_the_share_it_names() -> None:
    image = torch.full((6, 3, 150, 150), 0.9)
    wet = (weather.spatter(image, 4, generators(6)) != image).any(1).double().mean((1, 2))
    assert (wet - 0.40).abs().max() < 0.01
