"""Layers that round their input to bytes, of int8 models that versions before 0.2 made: their files still load.

Static quantisation after training (Krishnamoorthi 2018, arXiv:1806.08342): symmetric weights with a scale an output
channel, inputs with one scale and zero point a layer, from the range seen on calibration images. Arithmetic in float32,
with straight-through gradients. `audit.models.compression.static_int8` makes what is made today.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

_TOP = 127
"""Inputs take 7 of their 8 bits, 0..127."""
_SCALE, _ZERO = "input_scale", "input_zero"


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
