"""The cheaper gradient of grey images equals that of autograd, and leaves the net as it was."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from audit.models.grey_gradient import quick_grey_gradients

LAYERS = {
    "plain": nn.Conv2d(1, 8, 3),
    "strided": nn.Conv2d(1, 5, (3, 5), stride=(2, 3), padding=(1, 2)),
    "dilated": nn.Conv2d(1, 6, 3, dilation=2, padding=3, bias=False),
    "patches": nn.Conv2d(1, 12, 4, stride=4),
}


def gradient(net: nn.Module, images: Tensor) -> tuple[Tensor, Tensor]:
    leaf = images.clone().requires_grad_(True)
    output = net(leaf)
    return output.detach(), torch.autograd.grad(output.sin().sum(), leaf)[0]


def frozen(layer: nn.Module) -> nn.Sequential:
    return nn.Sequential(layer, nn.Tanh()).requires_grad_(False)


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("channels_last", [False, True])
def test_gradient_is_that_of_autograd_and_the_output_the_same_to_the_bit(name: str, channels_last: bool) -> None:
    net = frozen(LAYERS[name]).to(memory_format=torch.channels_last if channels_last else torch.contiguous_format)
    images = torch.rand(7, 1, 20, 23, generator=torch.Generator().manual_seed(0))
    plain, slope = gradient(net, images)
    with quick_grey_gradients(net):
        calls = count_calls(net, images)
        quick, quick_slope = gradient(net, images)
    assert torch.equal(plain, quick)
    assert torch.allclose(quick_slope, slope, rtol=1e-5, atol=1e-6) and slope.abs().max() > 0.01
    assert calls == 0 and count_calls(net, images) == 1
    assert "_conv_forward" not in net[0].__dict__


def count_calls(net: nn.Module, images: Tensor) -> int:
    """How often autograd's own gradient of a convolution runs."""
    leaf = images.clone().requires_grad_(True)
    total = net(leaf).sum()  # kept: in torch 2.10 a node whose tensor is gone tells nothing
    nodes, seen = [total.grad_fn], 0
    while nodes:
        node = nodes.pop()
        seen += type(node).__name__ == "ConvolutionBackward0"
        nodes += [following for following, _ in node.next_functions if following is not None]
    return seen


def test_second_derivatives_are_those_of_autograd() -> None:
    net = frozen(LAYERS["strided"]).double()
    images = torch.rand(2, 1, 9, 8, dtype=torch.float64)
    with quick_grey_gradients(net):
        assert torch.autograd.gradgradcheck(net, images.requires_grad_(True))
    net.float()


def test_weights_that_learn_and_other_convolutions_are_left_to_autograd() -> None:
    learning = nn.Sequential(nn.Conv2d(1, 4, 3))
    colour = frozen(nn.Conv2d(3, 4, 3))
    for net, channels in ((learning, 1), (colour, 3)):
        with quick_grey_gradients(net):
            assert count_calls(net, torch.rand(2, channels, 9, 9)) == 1
    with quick_grey_gradients(learning):
        learning(torch.rand(2, 1, 9, 9).requires_grad_(True)).sum().backward()
    assert learning[0].weight.grad is not None


def test_an_error_in_the_block_leaves_the_net_as_it_was() -> None:
    net = frozen(LAYERS["plain"])
    with pytest.raises(ZeroDivisionError), quick_grey_gradients(net), quick_grey_gradients(net):
        raise ZeroDivisionError
    assert "_conv_forward" not in net[0].__dict__


def test_inside_autocast_it_is_that_of_autograd_up_to_what_bfloat16_rounds() -> None:
    net = frozen(LAYERS["strided"])
    images = torch.rand(7, 1, 20, 23, generator=torch.Generator().manual_seed(0))
    with torch.autocast("cpu", torch.bfloat16):
        plain, slope = gradient(net, images)
        with quick_grey_gradients(net):
            quick, quick_slope = gradient(net, images)
    assert torch.equal(plain, quick) and quick_slope.dtype == torch.float32
    assert torch.allclose(quick_slope, slope, atol=0.02 * float(slope.abs().max()))
