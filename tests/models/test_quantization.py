"""Int8 in integers and in float32 is one arithmetic: the kernels say what the differentiable form says."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional

from audit.bounds.rules import RULES
from audit.bounds.trace import trace
from audit.core.errors import NotApplicable
from audit.explanation.traced_net import check_supported_layers, with_module_activations
from audit.models.architecture import build
from audit.models.compression.compress import quantize_weights, unpack
from audit.models.compression.quantization import (
    Int8Conv2d,
    Int8Linear,
    float_layers,
    input_ranges,
    insert_input_quantizers,
    to_integer_kernels,
)
from audit.models.resize_layers import match_state_dict
from tests.training.toy import tiny_net


def in_bytes(net: nn.Module, images: torch.Tensor) -> nn.Module:
    ranges = input_ranges(net, lambda: net(images))
    return quantize_weights(insert_input_quantizers(copy.deepcopy(net), ranges))[0].eval()


NETS = {
    "cnn-28": (1, 28, 28),
    "row-lstm": (1, 28, 28),
    "self-attention": (1, 28, 28),
    "torchvision:mobilenet_v2": (3, 32, 32),
    "resnet-18-small": (3, 16, 16),
}


@pytest.mark.parametrize("name", NETS)
def test_kernels_and_the_differentiable_form_agree_to_float_rounding(name: str) -> None:
    net = build(name, classes=5, input_shape=NETS[name], seed=0).eval()
    generator = torch.Generator().manual_seed(2)
    images = torch.randn(16, *NETS[name], generator=generator)
    if any(isinstance(part, nn.BatchNorm2d) for part in net.modules()):
        net.train()(images), net.eval()  # else the features of a fresh net fade to nothing
    twin = in_bytes(net, images)
    engine = to_integer_kernels(twin)
    assert engine is not None
    with torch.no_grad():
        ours, theirs, plain = twin(images), engine(images), net(images)
    scale = plain.abs().max()
    assert (ours - theirs).abs().max() < 5e-2 * scale  # a feature at a tie may round either way, and move others
    assert (ours - theirs).abs().median() < 1e-4 * scale
    assert 0 < (ours - plain).abs().max() < 0.5 * scale


def test_a_layer_is_the_integer_sum_it_claims_to_be() -> None:
    layer = nn.Sequential(nn.Conv2d(2, 3, 3, padding=1, stride=2), nn.ReLU()).eval()
    images = torch.randn(4, 2, 7, 7)
    twin = in_bytes(layer, images)
    conv = twin[0]
    assert isinstance(conv, Int8Conv2d)
    scale, zero = conv.input_scale.item(), int(conv.input_zero)
    levels = (images / scale + zero).round().clamp(0, 127) - zero
    step = layer[0].weight.detach().flatten(1).abs().amax(1) / 127
    whole = (layer[0].weight.detach() / step.view(-1, 1, 1, 1)).round()
    total = functional.conv2d(levels, whole, padding=1, stride=2)
    assert torch.equal(total, total.round()) and zero > 0
    expected = (total * (step * scale).view(1, -1, 1, 1) + layer[0].bias.view(1, -1, 1, 1)).relu()
    assert torch.allclose(twin(images), expected, atol=1e-5)
    engine = to_integer_kernels(twin)
    assert engine is not None and torch.allclose(engine(images), expected, atol=1e-5)


def test_gradients_pass_the_rounding_and_stop_outside_the_range() -> None:
    net = nn.Sequential(nn.Flatten(), nn.Linear(4, 1)).eval()
    twin = in_bytes(net, torch.tensor([[0.0, 1.0, 0.5, 0.2]]))
    image = torch.tensor([[0.3, 2.0, -1.0, 0.9]], requires_grad=True)
    (gradient,) = torch.autograd.grad(twin(image).sum(), image)
    weight = twin[1].weight.detach()[0]
    assert torch.equal(gradient[0], weight * torch.tensor([1.0, 0.0, 0.0, 1.0]))


def test_what_another_layer_reads_by_itself_stays_in_float_and_is_named() -> None:
    net = build("self-attention", classes=3, input_shape=(1, 14, 14), seed=0).eval()
    twin = in_bytes(net, torch.rand(3, 1, 14, 14))
    assert float_layers(twin)[:2] == ("blocks.0.attention", "blocks.0.attention.out_proj")
    assert isinstance(twin.get_submodule("blocks.0.mixing.0"), Int8Linear)
    assert float_layers(in_bytes(tiny_net(), torch.rand(3, 1, 9, 9))) == ()
    assert to_integer_kernels(tiny_net()) is None


def test_the_packed_form_brings_a_fresh_net_to_the_same_answers() -> None:
    net, images = tiny_net(norm=True).eval(), torch.rand(8, 1, 9, 9)
    ranges = input_ranges(net, lambda: net(images))
    twin, packed = quantize_weights(insert_input_quantizers(copy.deepcopy(net), ranges))
    assert packed["0.input_scale"].shape == ()
    again = match_state_dict(tiny_net(seed=3, norm=True).eval(), unpack(packed), cut=False)
    again.load_state_dict(unpack(packed))
    assert torch.equal(again(images), twin.eval()(images))
    assert not any(hooks._forward_pre_hooks for hooks in net.modules())


def test_methods_that_would_overlook_the_rounding_refuse() -> None:
    twin = in_bytes(tiny_net(), torch.rand(8, 1, 9, 9))
    with pytest.raises(NotApplicable, match=r"\(Int8Conv2d\) uses"):
        trace(twin, (1, 9, 9), RULES, torch.float64)
    with pytest.raises(NotApplicable, match="fake_quantize"):
        check_supported_layers(
            with_module_activations(twin), (nn.Conv2d, nn.Linear, nn.ReLU, nn.MaxPool2d, nn.Flatten, nn.Identity), "LRP"
        )
