from __future__ import annotations

import math

import pytest
import scipy.stats
import torch

from audit.core.errors import UsageError
from audit.core.seeding import Generators
from audit.corruptions.noise import gaussian_noise, impulse_noise, poisson, shot_noise, speckle_noise


def generators(count: int, seed: int = 0) -> Generators:
    return Generators.of(map(str, range(count)), seed=seed, purpose="test", device="cpu")


@pytest.mark.parametrize("severity, scale", [(1, 0.08), (2, 0.12)])
def test_gaussian_noise_has_the_published_deviation_at_224_pixels(severity: int, scale: float) -> None:
    grey = torch.full((2, 3, 224, 224), 0.5)
    noise = gaussian_noise(grey, severity, generators(2)) - grey
    assert noise.std().item() == pytest.approx(scale, rel=0.01)
    assert abs(noise.mean().item()) < 0.001


def test_gaussian_noise_on_small_images_uses_the_published_small_constants() -> None:
    grey = torch.full((64, 1, 32, 32), 0.5)
    assert (gaussian_noise(grey, 5, generators(64)) - grey).std().item() == pytest.approx(0.10, rel=0.01)


@pytest.mark.parametrize("rate", [0.0, 0.3, 4.0, 11.9, 12.0, 49.0, 500.0])
def test_poisson_draws_have_the_mean_and_the_variance_of_their_rate(rate: float) -> None:
    draws = poisson(torch.full((4, 1, 100, 100), rate), generators(4))
    count = draws.numel()
    assert draws.mean().item() == pytest.approx(rate, abs=5 * math.sqrt(rate / count) + 1e-9)
    assert draws.var().item() == pytest.approx(rate, rel=6 * math.sqrt((2 + 1 / max(rate, 0.1)) / count))


@pytest.mark.parametrize("rate, slack", [(1.5, 0.0), (11.0, 0.0), (12.5, 2e-3), (60.0, 2e-3)])
def test_poisson_draws_have_the_frequencies_of_their_rate(rate: float, slack: float) -> None:
    draws = poisson(torch.full((4, 1, 200, 200), rate), generators(4)).flatten()
    assert (draws == draws.round()).all()
    for k in range(int(rate + 5 * math.sqrt(rate))):
        expected = float(scipy.stats.poisson.cdf(k, rate))
        spread = math.sqrt(expected * (1 - expected) / len(draws))
        assert (draws <= k).double().mean().item() == pytest.approx(expected, abs=5 * spread + slack + 1e-6)


def test_shot_noise_leaves_black_black() -> None:
    images = torch.zeros(2, 1, 28, 28)
    assert torch.equal(shot_noise(images, 5, generators(2)), images)


def test_impulse_noise_replaces_the_published_share_by_salt_and_pepper_alike() -> None:
    images = torch.full((4, 3, 224, 224), 0.5)
    noisy = impulse_noise(images, 4, generators(4))
    assert (noisy != 0.5).double().mean().item() == pytest.approx(0.17, rel=0.02)
    assert (noisy == 1).double().sum().item() == pytest.approx((noisy == 0).double().sum().item(), rel=0.02)


def test_speckle_noise_is_in_proportion_to_the_value() -> None:
    dark = torch.full((4, 1, 100, 100), 0.1)
    light = torch.full((4, 1, 100, 100), 0.4)
    spread = [(speckle_noise(x, 1, generators(4)) - x).std().item() for x in (dark, light)]
    assert spread[1] == pytest.approx(4 * spread[0], rel=0.02)


@pytest.mark.parametrize("severity", [0, 6, -1])
def test_a_severity_that_does_not_exist_is_refused(severity: int) -> None:
    with pytest.raises(UsageError, match="1 to 5"):
        gaussian_noise(torch.zeros(1, 1, 8, 8), severity, generators(1))
