"""Names become modules: the classical nets in their sizes, seeds in their own hands, look-up errors that teach."""

from __future__ import annotations

import pytest
import torch

from audit.core.errors import ModelError, UsageError
from audit.models.architecture import ZOO, build, default_for

KERAS_MNIST = 9 * 32 + 32 + 9 * 32 * 64 + 64 + 1600 * 64 + 64 + 64 * 10 + 10
KERAS_CIFAR = 27 * 32 + 32 + 9 * 32 * 64 + 64 + 9 * 64 * 64 + 64 + 1024 * 64 + 64 + 64 * 10 + 10


@pytest.mark.parametrize(
    ("name", "shape", "weights"), [("cnn-28", (1, 28, 28), KERAS_MNIST), ("cnn-32", (3, 32, 32), KERAS_CIFAR)]
)
def test_the_classical_nets_have_the_weights_keras_reports(
    name: str, shape: tuple[int, int, int], weights: int
) -> None:
    net = build(name, classes=10, input_shape=shape, seed=0)
    assert sum(parameter.numel() for parameter in net.parameters()) == weights


@pytest.mark.parametrize("name", ZOO)
@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 32, 40)])
def test_every_zoo_net_takes_any_channel_count_and_gives_finite_logits(name: str, shape: tuple[int, int, int]) -> None:
    net = build(name, classes=7, input_shape=shape, seed=0)
    logits = net(torch.rand(2, *shape))
    assert logits.shape == (2, 7)
    assert bool(torch.isfinite(logits).all())
    logits.sum().backward()
    assert all(parameter.grad is not None for parameter in net.parameters())


@pytest.mark.parametrize("name", ZOO)
def test_weights_follow_the_seed_and_global_randomness_is_left_alone(name: str) -> None:
    before = torch.get_rng_state()
    first, again, other = (build(name, classes=3, input_shape=(1, 28, 28), seed=seed) for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), before)
    draws = [torch.cat([p.flatten() for p in net.parameters()]) for net in (first, again, other)]
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])


@pytest.mark.parametrize("name", ZOO)
def test_no_net_makes_a_tensor_without_naming_its_device(name: str) -> None:
    with torch.device("meta"):
        net = build(name, classes=3, input_shape=(1, 28, 28), seed=0)
        logits = net(torch.rand(2, 1, 28, 28, device="cpu"))
    assert logits.device.type == "cpu"


@pytest.mark.parametrize("channels", [1, 3])
def test_torchvision_nets_take_the_channels_and_classes_asked_for(channels: int) -> None:
    net = build("torchvision:resnet18", classes=4, input_shape=(channels, 40, 40), seed=0).eval()
    with torch.no_grad():
        assert net(torch.rand(2, channels, 40, 40)).shape == (2, 4)


def test_auxiliary_heads_are_left_out() -> None:
    net = build("torchvision:googlenet", classes=3, input_shape=(3, 48, 48), seed=0).train()
    with torch.no_grad():
        assert net(torch.rand(2, 3, 48, 48)).shape == (2, 3)


@pytest.mark.parametrize(
    ("size", "name"),
    [(8, "cnn-8"), (9, "cnn-8"), (10, "cnn-28"), (28, "cnn-28"), (32, "cnn-32"), (64, "cnn-32"), (150, "cnn-150")],
)
def test_the_default_fits_the_image_size(size: int, name: str) -> None:
    assert default_for((1, size, size)) == name


def test_unknown_names_list_what_exists() -> None:
    with pytest.raises(UsageError, match=r"Did you mean 'cnn-28'.*torchvision:NAME"):
        build("cnn28", classes=3, input_shape=(1, 28, 28), seed=0)
    with pytest.raises(UsageError, match=r"Unknown torchvision architecture 'resnet19'.*resnet18"):
        build("torchvision:resnet19", classes=3, input_shape=(3, 28, 28), seed=0)


def test_images_too_small_for_a_net_are_told() -> None:
    with pytest.raises(ModelError, match="8x8 pixels are too small for cnn-150"):
        build("cnn-150", classes=3, input_shape=(1, 8, 8), seed=0)
