"""Int8 inference: layers that round their input to bytes, once differentiable and once in integers.

Static quantisation after training (Krishnamoorthi 2018, arXiv:1806.08342): symmetric weights with a scale an output
channel, inputs with one scale and zero point a layer, from the range seen on calibration images. `Int8Conv2d` and
`Int8Linear` are the same arithmetic in float32, with straight-through gradients, for attacks and attributions;
`to_integer_kernels` runs it in the integer kernels of the CPU. Products of two bytes are summed exactly, so both agree
to float rounding.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from audit.models.module_copy import copy_module

_TOP = 127
"""Inputs take 7 of their 8 bits, 0..127: kernels without VNNI add two products in 16 bits, which 8 overflow."""
_SCALE, _ZERO = "input_scale", "input_zero"
ENGINE = "oneDNN"

InputRange = tuple[float, float]
"""The least and the greatest input of a layer."""


class _Int8(nn.Module):
    """What both kinds of layer share: the scale and zero point of the input."""

    input_scale: Tensor
    input_zero: Tensor

    def set_qparams(self, scale: float = 1.0, zero: int = 0) -> None:
        """Round inputs to `scale` x (byte - `zero`)."""
        device = next(self.parameters()).device
        self.register_buffer(_SCALE, torch.tensor(scale, dtype=torch.float32, device=device))
        self.register_buffer(_ZERO, torch.tensor(zero, dtype=torch.int32, device=device))

    def fake_quantize(self, features: Tensor) -> Tensor:
        """`features` rounded; gradients pass unchanged inside the range and not outside."""
        rounded: Tensor = torch.fake_quantize_per_tensor_affine(features, self.input_scale, self.input_zero, 0, _TOP)
        return rounded


class Int8Conv2d(nn.Conv2d, _Int8):
    """A convolution whose input is rounded to bytes first."""

    def forward(self, input: Tensor) -> Tensor:
        """The convolution of the rounded input.

        Args:
            input: (N, C, H, W).
        """
        return super().forward(self.fake_quantize(input))


class Int8Linear(nn.Linear, _Int8):
    """A linear layer whose input is rounded to bytes first."""

    def forward(self, input: Tensor) -> Tensor:
        """The linear map of the rounded input.

        Args:
            input: (..., in_features).
        """
        return super().forward(self.fake_quantize(input))


def input_ranges(module: nn.Module, run: Callable[[], object]) -> dict[str, InputRange]:
    """The range of the inputs of each convolution and linear layer, widened to hold 0.

    A layer whose weights another reads directly, as attention does, is left out.

    Args:
        module: The module.
        run: Runs it on the calibration images.

    Returns:
        The ranges by layer name.
    """
    ranges: dict[str, InputRange] = {}

    def observe(name: str, layer: nn.Module, inputs: tuple[Any, ...]) -> None:
        low, high = ranges.get(name, (0.0, 0.0))
        smallest, largest = inputs[0].detach().aminmax()
        ranges[name] = (min(low, smallest.item()), max(high, largest.item()))

    hooks = [
        layer.register_forward_pre_hook(partial(observe, name))
        for name, layer in module.named_modules()
        if _fits(name, layer)
    ]
    try:
        run()
    finally:
        for hook in hooks:
            hook.remove()
    return ranges


def insert_input_quantizers(module: nn.Module, ranges: Mapping[str, InputRange]) -> nn.Module:
    """Make layers round their inputs to bytes over their range.

    Args:
        module: The module, changed in place.
        ranges: The ranges by layer name.

    Returns:
        The module.
    """
    for name, (low, high) in ranges.items():
        scale = max(high - low, 1e-8) / _TOP
        _swap(module, name).set_qparams(scale, round(-low / scale))
    return module


def restore_quantizers(module: nn.Module, state: Mapping[str, Tensor]) -> nn.Module:
    """Make a module round inputs where a state dict says so; its numbers are not copied.

    Args:
        module: The module, changed in place.
        state: A state dict; a layer with a scale for its input gets a quantiser.

    Returns:
        The module.
    """
    layers = {key.removesuffix(f".{_SCALE}") for key in state if key.endswith(f".{_SCALE}")}
    replaced = [name for name, layer in module.named_modules() if name in layers and _fits(name, layer)]
    for name in replaced:
        _swap(module, name).set_qparams()
    return module


def float_layers(module: nn.Module) -> tuple[str, ...]:
    """The names of layers with weights that do not compute in int8.

    Args:
        module: The module.
    """
    holders = {name.rpartition(".")[0] for name, value in module.named_parameters() if value.ndim > 1}
    return tuple(n for n, layer in module.named_modules() if n and n in holders and not isinstance(layer, _Int8))


def to_integer_kernels(module: nn.Module) -> nn.Module | None:
    """A copy whose quantised layers run in the integer kernels of the CPU, without gradients.

    Args:
        module: The module.

    Returns:
        The copy; None where there is no such layer or no such kernel.
    """
    twin = copy_module(module).eval()
    layers = [(name, layer) for name, layer in twin.named_modules() if isinstance(layer, Int8Conv2d | Int8Linear)]
    if not layers or any(value.device.type != "cpu" for value in twin.parameters()):
        return None
    try:
        for name, layer in layers:
            twin.set_submodule(name, _Convolved(layer) if isinstance(layer, Int8Conv2d) else _Mapped(layer))
        kernel = next(module for module in twin.modules() if isinstance(module, _Kernel))
        kernel(kernel.example())
    except (AttributeError, RuntimeError, NotImplementedError):  # torch built without oneDNN
        return None
    return twin


class _Kernel(nn.Module):
    """A layer in integers: bytes in, products summed in 32 bits, float32 out."""

    def __init__(self, layer: Any) -> None:
        super().__init__()
        weight = layer.weight.detach()
        self.scales = (weight.flatten(1).abs().amax(1).clamp(min=1e-12) / _TOP).contiguous()
        self.levels = (weight / self.scales.view(-1, *[1] * (weight.ndim - 1))).round().to(torch.int8)
        self.zeros = torch.zeros(len(weight), dtype=torch.int32, device="cpu")
        self.bias = None if layer.bias is None else layer.bias.detach()
        self.grid = (float(layer.input_scale), int(layer.input_zero))
        self.finer = float(1.0 / layer.input_scale)  # in float32, as the differentiable layer divides

    def bytes_of(self, features: Tensor) -> Tensor:
        """uint8 levels of `features`, rounded as the differentiable layer rounds."""
        return features.mul(self.finer).round_().add_(self.grid[1]).clamp_(0, _TOP).to(torch.uint8)

    def example(self) -> Tensor:
        """An input on which to see whether the kernel is there."""
        raise NotImplementedError


class _Convolved(_Kernel):
    def __init__(self, layer: Int8Conv2d) -> None:
        super().__init__(layer)
        padding = [side for side in layer.padding if not isinstance(side, str)]
        self.steps = (list(layer.stride), padding, list(layer.dilation))
        self.groups, self.channels, self.reach = layer.groups, layer.in_channels, 64
        kernels: Any = torch.ops.onednn
        self.packed = kernels.qconv_prepack(self.levels, self.scales, *self.grid, *self.steps, layer.groups, None)

    def forward(self, features: Tensor) -> Tensor:
        """The convolution (N, C, H, W)."""
        levels = self.bytes_of(features).contiguous(memory_format=torch.channels_last)
        kernels: Any = torch.ops.onednn
        outputs: Tensor = kernels.qconv2d_pointwise(
            levels, *self.grid, self.packed, self.scales, self.zeros, self.bias, *self.steps, self.groups,
            1.0, 0, torch.float32, "none", [], "",
        )  # fmt: skip
        return outputs

    def example(self) -> Tensor:
        """Grey pixels, enough for any kernel."""
        return torch.zeros(1, self.channels, self.reach, self.reach, device="cpu")


class _Mapped(_Kernel):
    def __init__(self, layer: Any) -> None:
        super().__init__(layer)
        kernels: Any = torch.ops.onednn
        self.packed = kernels.qlinear_prepack(self.levels, None)
        self.wide = layer.in_features

    def forward(self, features: Tensor) -> Tensor:
        """The linear map (..., out)."""
        kernels: Any = torch.ops.onednn
        outputs: Tensor = kernels.qlinear_pointwise(
            self.bytes_of(features).contiguous(), *self.grid, self.packed, self.scales, self.zeros, self.bias,
            1.0, 0, torch.float32, "none", [], "",
        )  # fmt: skip
        return outputs

    def example(self) -> Tensor:
        """One row."""
        return torch.zeros(1, self.wide, device="cpu")


def _fits(name: str, layer: nn.Module) -> bool:
    """A plain convolution or linear layer that can be replaced: not the net itself, and padded with zeros."""
    if type(layer) in (nn.Linear, Int8Linear):
        return bool(name)
    plain = isinstance(layer, nn.Conv2d) and type(layer) in (nn.Conv2d, Int8Conv2d)
    return bool(name) and plain and layer.padding_mode == "zeros" and not isinstance(layer.padding, str)


def _swap(module: nn.Module, name: str) -> _Int8:
    """The layer `name` of `module` put in place by one of the same weights that reads bytes."""
    old: Any = module.get_submodule(name)
    if isinstance(old, _Int8):
        return old
    bias = old.bias is not None
    if isinstance(old, nn.Linear):
        new: Any = Int8Linear(old.in_features, old.out_features, bias, device="meta")
    else:
        shape = (old.in_channels, old.out_channels, old.kernel_size, old.stride, old.padding, old.dilation)
        new = Int8Conv2d(*shape, old.groups, bias, device="meta")
    new.weight, new.bias = old.weight, old.bias
    new.train(old.training)
    module.set_submodule(name, new)
    return new  # type: ignore[no-any-return]
