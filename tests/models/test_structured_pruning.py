"""Channels that are cut leave the net: what remains computes what the net with those numbers at zero computes."""

from __future__ import annotations

import copy
import importlib

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from audit.core.errors import SetupError, UsageError
from audit.models.architecture import build
from audit.models.compression.structured_pruning import PrunedModel, masked_parent, probe_images, prune_channels
from audit.models.resize_layers import shrink_to
from tests.training.toy import same_weights, tiny_net

SMALL = {
    "cnn-28": (1, 28, 28),
    "cnn-32": (3, 32, 32),
    "torchvision:mobilenet_v2": (3, 32, 32),
    "torchvision:mobilenet_v3_small": (3, 32, 32),
    "torchvision:squeezenet1_1": (3, 64, 64),
}
LARGE = {
    "cnn-150": (3, 150, 150),
    "resnet-18-small": (3, 32, 32),
    "torchvision:alexnet": (3, 64, 64),
    "torchvision:vgg11_bn": (3, 32, 32),
    "torchvision:resnet18": (3, 64, 64),
    "torchvision:resnext50_32x4d": (3, 32, 32),
    "torchvision:densenet121": (3, 32, 32),
    "torchvision:inception_v3": (3, 80, 80),
    "torchvision:efficientnet_b0": (3, 32, 32),
}


def lived_in(net: nn.Module) -> nn.Module:
    """Norms as training leaves them: else a channel's shift would be 0 and what is lost with it unseen."""
    generator = torch.Generator().manual_seed(1)
    for part in net.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.weight.data = 0.5 + torch.rand(part.weight.shape, generator=generator)
            part.bias.data = torch.rand(part.bias.shape, generator=generator) - 0.3
            part.running_mean = 0.2 * torch.rand(part.bias.shape, generator=generator)
            part.running_var = 0.5 + torch.rand(part.bias.shape, generator=generator)
    return net.eval()


def size(net: nn.Module) -> int:
    return sum(parameter.numel() for parameter in net.parameters())


def assert_equal_outputs(net: nn.Module, cut: PrunedModel, images: Tensor) -> None:
    with torch.no_grad():
        expected, logits = masked_parent(net, cut.kept_indices)(images), cut.module(images)
        assert torch.allclose(logits, expected, rtol=1e-4, atol=1e-5 * float(expected.abs().max()))
        assert not torch.allclose(net(images), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "shape"),
    [*SMALL.items(), *(pytest.param(*item, marks=pytest.mark.slow, id=item[0]) for item in LARGE.items())],
)
def test_a_cut_net_computes_what_the_zeroed_one_does(name: str, shape: tuple[int, int, int]) -> None:
    net = lived_in(build(name, classes=10, input_shape=shape, seed=0))
    cut = prune_channels(net, 0.3, probe_images(shape))
    assert cut.unpruned_layers == ()
    assert size(cut.module) < 0.55 * size(net)
    assert_equal_outputs(net, cut, torch.rand(3, *shape, generator=torch.Generator().manual_seed(5)))


def test_the_weakest_channels_go_and_the_original_stays() -> None:
    net = tiny_net(norm=True)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    cut = prune_channels(net, 0.5, probe_images((1, 9, 9)))
    strongest = net[4].weight.detach().flatten(1).norm(dim=1).argsort(descending=True)[:3].sort().values
    kernels = net[0].weight.detach().flatten(1).norm(dim=1).argsort(descending=True)[:2].sort().values
    assert torch.equal(cut.module[4].weight, net[4].weight[strongest][:, kernels])
    assert torch.equal(cut.module[4].bias, net[4].bias[strongest])
    assert torch.equal(cut.module[1].running_var, net[1].running_var[kernels])
    columns = torch.cat([torch.arange(4) + 4 * channel for channel in strongest])
    assert torch.equal(cut.module[7].weight, net[7].weight[:, columns])
    assert same_weights(net.state_dict(), before)
    assert [part.training for part in cut.module.modules()] == [part.training for part in net.modules()]


class Tied(nn.Module):
    """A sum over a skip connection, two branches laid side by side, and a sigmoid, which is not 0 at 0."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(1, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1)
        self.left, self.right = nn.Conv2d(8, 6, 1), nn.Conv2d(8, 10, 1)
        self.shared, self.head = nn.Conv2d(16, 12, 3, groups=4), nn.Linear(12, 3)

    def forward(self, images: Tensor) -> Tensor:
        start = functional.relu(self.first(images))
        sides = torch.cat([self.left(start + self.second(start)), self.right(start).sigmoid()], 1)
        return self.head(self.shared(sides).mean((2, 3)))


def test_sums_tie_channels_and_branches_keep_their_order() -> None:
    torch.manual_seed(0)
    net, images = Tied().eval(), torch.rand(4, 1, 9, 9)
    cut = prune_channels(net, 0.25, images)
    assert cut.module.first.out_channels == cut.module.second.in_channels == cut.module.second.out_channels == 6
    assert_equal_outputs(net, cut, torch.rand(4, 1, 9, 9))


def test_what_cannot_be_cut_alone_is_spared_by_name() -> None:
    net = build("self-attention", classes=4, input_shape=(1, 28, 28), seed=0).eval()
    cut = prune_channels(net, 0.3, probe_images((1, 28, 28)))
    assert cut.unpruned_layers == ("embed", *(f"blocks.{number}.mixing.2" for number in range(4)))
    assert cut.module.blocks[0].mixing[0].out_features == 90
    images = torch.rand(3, 1, 28, 28)
    assert torch.allclose(cut.module(images), masked_parent(net, cut.kept_indices).eval()(images), atol=1e-5)


class Forked(nn.Module):
    """Its forward chooses a layer by the pixels."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.bright, self.dark = nn.Linear(9, 8), nn.Linear(8, 2), nn.Linear(8, 2)

    def forward(self, images: Tensor) -> Tensor:
        stem = self.stem(images.flatten(1))
        return self.bright(stem) if images.mean() > 0.1 else self.dark(stem)


def test_a_net_that_no_channel_can_leave_is_refused_in_one_sentence() -> None:
    recurrent = build("row-lstm", classes=3, input_shape=(1, 12, 12), seed=0)
    with pytest.raises(UsageError, match="none of RowLstm's layers can lose any"):
        prune_channels(recurrent, 0.3, probe_images((1, 12, 12)))
    with pytest.raises(UsageError, match="layer dark had no part"):
        prune_channels(Forked(), 0.3, probe_images((1, 3, 3)))
    with pytest.raises(UsageError, match="between 0 and 1"):
        prune_channels(tiny_net(), 1.0, probe_images((1, 9, 9)))


def test_without_the_library_the_sentence_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> None:
        raise ImportError(name)

    monkeypatch.setattr(importlib, "import_module", absent)
    with pytest.raises(SetupError, match=r"pip install 'audit\[compress\]'"):
        prune_channels(tiny_net(), 0.3, probe_images((1, 9, 9)))


def test_a_fresh_net_takes_the_shape_and_the_numbers_of_a_cut_one() -> None:
    net = lived_in(build("torchvision:mobilenet_v2", classes=3, input_shape=(3, 32, 32), seed=0))
    cut = prune_channels(net, 0.4, probe_images((3, 32, 32))).module
    again = build("torchvision:mobilenet_v2", classes=3, input_shape=(3, 32, 32), seed=9).eval()
    shrink_to(again, cut.state_dict()).load_state_dict(cut.state_dict())
    images = torch.rand(2, 3, 32, 32)
    assert torch.equal(again(images), cut(images)) and str(again) == str(cut)


def test_a_tensor_is_never_made_larger() -> None:
    net = tiny_net()
    wide = copy.deepcopy(net.state_dict()) | {"4.bias": torch.zeros(9), "7.bias": torch.zeros(3, 1)}
    assert same_weights(shrink_to(tiny_net(), wide).state_dict(), net.state_dict())
