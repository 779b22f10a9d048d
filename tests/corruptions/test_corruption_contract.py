"""Every registered corruption, without a line of its own: range, size, seeds, batches, order, severity."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor

from audit.core.errors import NotApplicable
from audit.core.registry import Method, methods
from audit.core.seeding import Generators
from tests.pretended_device import ELSEWHERE, PretendedDevice, on_both

METHODS = methods("corruption")
PUBLISHED = {
    "noise": {"gaussian-noise", "shot-noise", "impulse-noise"},
    "blur": {"defocus-blur", "glass-blur", "motion-blur", "zoom-blur"},
    "weather": {"snow", "frost", "fog", "brightness"},
    "digital": {"contrast", "elastic-transform", "pixelate", "jpeg-compression"},
    "extra": {"speckle-noise", "gaussian-blur", "spatter", "saturate"},
}
every = pytest.mark.parametrize("method", METHODS, ids=lambda m: m.name)
SIZES = [(1, 28, 28), (3, 32, 32), (3, 40, 56), (3, 150, 150)]


def pictures(count: int, channels: int, height: int, width: int) -> Tensor:
    """Smooth blobs with an edge and some texture: what blurs, noise and warps all act on."""
    generator = torch.Generator(device="cpu").manual_seed(height)
    coarse = torch.rand(count, channels, 5, 5, generator=generator, device="cpu")
    smooth = torch.nn.functional.interpolate(coarse, (height, width), mode="bicubic", align_corners=False)
    texture = 0.15 * torch.rand(count, channels, height, width, generator=generator, device="cpu")
    smooth[:, :, : height // 2, width // 2 :] *= 0.4
    return (0.85 * smooth + texture).clamp(0, 1)


def generators(count: int, seed: int = 0) -> Generators:
    return Generators.of(map(str, range(count)), seed=seed, purpose="test", device="cpu")


def apply(method: Method, images: Tensor, severity: int, seed: int = 0) -> Tensor:
    try:
        changed: Tensor = method.function(images, severity, generators(len(images), seed))
    except NotApplicable:
        assert images.shape[1] == 1, "only the lack of colour is a reason"
        pytest.skip("has no meaning on grey images")
    return changed


def test_the_families_of_imagenet_c_are_all_here() -> None:
    for group, names in PUBLISHED.items():
        assert names <= {m.name for m in METHODS if m.facts["group"] == group}


@every
@pytest.mark.parametrize("shape", SIZES, ids=str)
@pytest.mark.parametrize("severity", [1, 5])
def test_the_picture_keeps_its_shape_and_range_and_changes(method: Method, shape, severity: int) -> None:
    images = pictures(2, *shape)
    before = images.clone()
    changed = apply(method, images, severity)
    assert changed.shape == images.shape and changed.dtype == torch.float32
    assert changed.min() >= 0 and changed.max() <= 1 and torch.isfinite(changed).all()
    assert (changed - images).abs().flatten(1).max(1).values.min() > 1e-3
    assert torch.equal(images, before), "the images given must not be written to"


@every
@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 32, 32), (3, 150, 150)], ids=str)
def test_distortion_rises_with_severity(method: Method, shape) -> None:
    """Two of the published steps are ties (motion blur 3 and 4, snow 2 and 3): chance may turn those by 3%."""
    images = pictures(6 if shape[1] > 100 else 12, *shape)
    distortion = [(apply(method, images, s) - images).abs().mean().item() for s in range(1, 6)]
    assert all(b > 0.97 * a for a, b in itertools.pairwise(distortion)), distortion
    assert distortion[4] > 1.1 * distortion[0] and distortion[4] > distortion[2] > distortion[0], distortion


@every
def test_an_image_gets_the_same_corruption_in_any_batch(method: Method) -> None:
    images = pictures(5, 3, 32, 32)
    whole = method.function(images, 4, generators(5))
    order = torch.tensor([3, 0, 4])
    part = method.function(images[order], 4, generators(5).select(order))
    torch.testing.assert_close(part, whole[order], atol=1e-5, rtol=0)


@every
def test_no_global_randomness_is_used(method: Method) -> None:
    images = pictures(2, 3, 32, 32)
    state = torch.get_rng_state()
    first = apply(method, images, 3)
    assert torch.equal(state, torch.get_rng_state())
    torch.manual_seed(123)
    assert torch.equal(first, apply(method, images, 3))


@every
def test_new_tensors_are_made_on_the_images_device(method: Method) -> None:
    images = pictures(2, 3, 32, 32)
    expected = apply(method, images, 3)
    with torch.device("meta"):
        assert torch.equal(expected, apply(method, images, 3))


@every
def test_another_device_gives_the_same_image(method: Method) -> None:
    def corrupt(device: torch.device) -> Tensor:
        draws = Generators.of(("a", "b"), seed=0, purpose="test", device=device)
        return method.function(pictures(2, 3, 32, 32).to(device), 3, draws)

    here, there = on_both(corrupt)
    torch.testing.assert_close(here, there, atol=1e-6, rtol=0)


@every
def test_a_corruption_never_waits_for_the_device(method: Method) -> None:
    """What it draws and where it draws stay there; the host would wait for each batch of images else."""
    with PretendedDevice() as pretended:
        images, draws = pictures(2, 3, 32, 32).to(ELSEWHERE), Generators(generators(2).keys.to(ELSEWHERE))
        pretended.host_reads.clear()
        try:
            method.function(images, 3, draws)
        except NotApplicable as reason:
            pytest.skip(str(reason))
        assert method.wraps or not pretended.host_reads
