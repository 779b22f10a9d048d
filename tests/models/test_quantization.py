"""Int8: the file that onnxruntime runs is the sum of bytes it claims to be, and its form in torch says the same."""

from __future__ import annotations

import copy
import importlib
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional

from audit.bounds.rules import RULES
from audit.bounds.trace import trace
from audit.core.errors import ModelError, NotApplicable, SetupError
from audit.explanation.traced_net import check_supported_layers, with_module_activations
from audit.models.architecture import build
from audit.models.compression.compress import quantize_weights, unpack
from audit.models.compression.quantization import Int8Conv2d, Int8Linear, restore_quantizers
from audit.models.compression.static_int8 import (
    differentiable_form,
    file_footprint,
    float_operators,
    quantised_file,
    require_onnxruntime,
)
from audit.models.formats.onnx_header import header_of, parsed, with_header
from audit.models.formats.onnx_runtime_net import OnnxRuntimeNet
from audit.models.resize_layers import match_state_dict
from audit.models.under_test import ModelUnderTest
from tests.training.toy import tiny_net

pytest.importorskip("onnxruntime", reason="needs the extra onnx")

NETS = {
    "cnn-28": (1, 28, 28),
    "row-lstm": (1, 28, 28),
    "self-attention": (1, 14, 14),
    "resnet-18-small": (3, 16, 16),
}
WIDTH = {"resnet-18-small": 0.2}


def under_test(net: nn.Module, shape: tuple[int, int, int], classes: int = 5, **normalisation: float) -> ModelUnderTest:
    names = [str(i) for i in range(classes)]
    return ModelUnderTest(net, classes=names, input_shape=shape, device="cpu", **normalisation)


@pytest.mark.parametrize("name", NETS)
def test_the_file_and_its_differentiable_form_give_the_same_and_nearly_what_the_net_gives(name: str) -> None:
    net = build(name, classes=5, input_shape=NETS[name], seed=0)
    images = torch.rand(24, *NETS[name], generator=torch.Generator().manual_seed(2))
    net.train()(images), net.eval()  # else the features of a fresh net with batch norm fade to nothing
    parent = under_test(net, NETS[name], mean=0.4, std=0.3)
    file = quantised_file(parent, images)
    form = under_test(differentiable_form(file), NETS[name])
    with torch.no_grad():
        ours, theirs, plain = form.logits(images), OnnxRuntimeNet(file)(images), parent.logits(images)
    scale = plain.abs().max()
    assert (ours - theirs).abs().max() < 5e-2 * scale  # a feature at a tie may round either way, and move others
    assert 0 < (theirs - plain).abs().max() < 0.1 * scale
    # torch 2.10 writes an LSTM as slices and products, later ones as one operator, which stays in float
    assert set(float_operators(file)) <= ({"LSTM", "Slice"} if name == "row-lstm" else set())
    leaf = images[:2].clone().requires_grad_(True)
    (gradient,) = torch.autograd.grad(form.module(leaf)[:, 0].sum(), leaf)
    assert bool(gradient.any())


def test_a_layer_is_the_integer_sum_it_claims_to_be_with_bytes_that_no_16_bits_overflow() -> None:
    net = nn.Sequential(nn.Conv2d(2, 3, 3, padding=1, stride=2), nn.Flatten()).eval()
    images = torch.rand(32, 2, 7, 7, generator=torch.Generator().manual_seed(1))
    file = quantised_file(under_test(net, (2, 7, 7), 48, mean=0.5, std=0.25), images)
    normalised = (images - 0.5) / 0.25
    scale = (normalised.max() - normalised.min()) / 255
    zero = (-normalised.min() / scale).round()
    levels = (normalised / scale + zero).round().clamp(0, 255) - zero
    weight, bias = net[0].weight.detach(), net[0].bias.detach()
    step = weight.flatten(1).abs().amax(1) / 64
    whole = (weight / step.view(-1, 1, 1, 1)).round()
    total = functional.conv2d(levels, whole, padding=1, stride=2)
    assert torch.equal(total, total.round()) and int(zero) > 0
    exact = (total * (step * scale).view(1, -1, 1, 1) + bias.view(1, -1, 1, 1)).flatten(1)
    grid = (exact.max() - exact.min()) / 255
    for form in (OnnxRuntimeNet(file), differentiable_form(file)):
        assert (form(images) - exact).abs().max() < 1.01 * grid  # the output is rounded to bytes once more
    weights = [t for t in parsed(file).graph.initializer if t.data_type == 3 and len(t.dims) == 4]
    (stored,) = [torch.frombuffer(bytearray(t.raw_data), dtype=torch.int8) for t in weights]
    assert torch.equal(stored.view_as(whole).float(), whole) and int(stored.abs().max()) == 64
    assert 2 * 255 * int(stored.abs().max()) < 2**15


def test_what_carries_no_gradient_answers_as_the_file_and_is_counted() -> None:
    model = under_test(tiny_net(), (1, 9, 9), 3)
    images = torch.rand(6, 1, 9, 9)
    plain = model.logits(images)
    model.runtime = OnnxRuntimeNet(quantised_file(under_test(tiny_net(seed=5), (1, 9, 9), 3), images))
    with model.count() as counter:
        answers = model.logits(images)
    assert torch.equal(answers, model.runtime(images)) and not torch.allclose(answers, plain)
    assert (counter.passes.forwards, counter.passes.backwards) == (6, 0)
    assert torch.equal(copy.deepcopy(model.runtime)(images), answers)
    labels = torch.zeros(6, dtype=torch.int64)
    gradient = model.loss_gradient(images, labels, lambda logits, at: logits.gather(1, at[:, None])[:, 0])
    assert torch.equal(gradient.logits, plain)


def test_gradients_pass_the_rounding_at_both_ends_of_the_range_and_stop_outside_it() -> None:
    net = nn.Sequential(nn.Flatten(), nn.Linear(4, 2)).eval()
    corners = torch.cartesian_prod(*[torch.tensor([0.0, 1.0])] * 4).view(16, 1, 2, 2)
    form = differentiable_form(quantised_file(under_test(net, (1, 2, 2), 2), corners))
    image = torch.tensor([[0.0, 1.0, 1.5, -0.5]]).view(1, 1, 2, 2).requires_grad_(True)
    (gradient,) = torch.autograd.grad(form(image)[:, 0].sum(), image)
    passes = gradient.flatten() != 0
    assert passes.tolist() == [True, True, False, False]


def test_the_header_is_read_of_files_that_were_written_here_alone(tmp_path: Path) -> None:
    file = quantised_file(under_test(tiny_net(), (1, 9, 9), 3), torch.rand(8, 1, 9, 9))
    (tmp_path / "ours.onnx").write_bytes(with_header(file, {"classes": '["a", "b", "c"]'}))
    assert header_of(tmp_path / "ours.onnx") == {"classes": '["a", "b", "c"]'}
    proto = parsed(with_header(file, {"classes": "[]"}))
    proto.producer_name = "another"
    (tmp_path / "theirs.onnx").write_bytes(proto.SerializeToString())
    (tmp_path / "broken.onnx").write_bytes(b"\x12\x05audit, but no file")
    assert header_of(tmp_path / "theirs.onnx") == header_of(tmp_path / "broken.onnx") == {}
    assert header_of(tmp_path / "absent.onnx") == {}


def test_the_size_counts_the_weights_and_the_file_holds_no_path_of_the_machine() -> None:
    net = tiny_net(norm=True)
    file = quantised_file(under_test(net, (1, 9, 9), 3), torch.rand(8, 1, 9, 9))
    size = file_footprint(file)
    folded = sum(p.numel() for layer in (net[0], net[4], net[7]) for p in layer.parameters())
    assert size.parameters == folded and size.nonzero <= folded and size.bytes == len(file)
    assert str(Path(__file__).parents[2]).encode() not in file and b"site-packages" not in file


class Branching(nn.Module):
    """Looks at its images to say which way it goes."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        flat = images.flatten(1)[:, :3]
        return flat if images.sum() > 5 else 2 * flat


def test_a_net_that_is_not_exported_is_refused_in_a_sentence() -> None:
    with pytest.raises(ModelError, match=r"cannot be brought to int8.*another method"):
        quantised_file(under_test(Branching(), (1, 3, 3), 3), torch.rand(4, 1, 3, 3))


@pytest.mark.parametrize("name", ["onnx", "onnxruntime", "onnxscript"])
def test_a_missing_library_is_named_with_its_extra(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    real = importlib.import_module

    def without(module: str, *args: Any) -> Any:
        if module == name:
            raise ImportError(module)
        return real(module, *args)

    monkeypatch.setattr("audit.models.compression.static_int8.import_module", without)
    with pytest.raises(SetupError, match=rf"{name} is missing.*audit\[onnx\]"):
        require_onnxruntime()


def packed_by_an_earlier_version(net: nn.Module) -> dict[str, torch.Tensor]:
    """Int8 weights, and a scale and a zero point of the inputs of the first layer and the last."""
    packed = quantize_weights(net)[1]
    for layer, scale in (("0", 1 / 127), ("7", 0.05)):
        packed |= {f"{layer}.input_scale": torch.tensor(scale), f"{layer}.input_zero": torch.tensor(3).int()}
    return packed


def test_files_that_earlier_versions_packed_still_round_their_inputs() -> None:
    net, images = tiny_net(norm=True).eval(), torch.rand(8, 1, 9, 9)
    state = unpack(packed_by_an_earlier_version(net))
    again = match_state_dict(tiny_net(seed=3, norm=True).eval(), state, cut=False)
    again.load_state_dict(state)
    assert isinstance(again[0], Int8Conv2d) and isinstance(again[7], Int8Linear)
    levels = (images * 127 + 3).round().clamp(0, 127) - 3
    with torch.no_grad():
        first = functional.conv2d(levels / 127, state["0.weight"], state["0.bias"])
        inner = again[1:7](first)
        rounded = ((inner / 0.05 + 3).round().clamp(0, 127) - 3) * 0.05
        assert torch.allclose(again(images), functional.linear(rounded, state["7.weight"], state["7.bias"]), atol=1e-5)


def test_methods_that_would_overlook_the_rounding_refuse() -> None:
    twin = restore_quantizers(tiny_net(), packed_by_an_earlier_version(tiny_net())).eval()
    form = differentiable_form(quantised_file(under_test(tiny_net(), (1, 9, 9), 3), torch.rand(8, 1, 9, 9)))
    with pytest.raises(NotApplicable, match=r"\(Int8Conv2d\) uses"):
        trace(twin, (1, 9, 9), RULES, torch.float64)
    with pytest.raises(NotApplicable):
        trace(form, (1, 9, 9), RULES, torch.float64)
    layers = (nn.Conv2d, nn.Linear, nn.ReLU, nn.MaxPool2d, nn.Flatten, nn.Identity)
    for net in (twin, form):
        with pytest.raises(NotApplicable):
            check_supported_layers(with_module_activations(net), layers, "LRP")
