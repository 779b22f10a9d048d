"""Modules whose layers are made to fit a state dict: fewer channels, or quantised inputs."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd

from audit.models.compression.quantization import restore_quantizers


def match_state_dict(module: nn.Module, state: Mapping[str, Tensor], *, cut: bool) -> nn.Module:
    """Change a module so that it can load a state dict. Its numbers are not copied.

    Args:
        module: The module, changed in place.
        state: The state dict; layers whose inputs it quantises get quantisers.
        cut: Whether the net has fewer channels than its architecture.

    Returns:
        The module.
    """
    return restore_quantizers(_widened(shrink_to(module, state) if cut else module, state), state)


def _widened(module: nn.Module, state: Mapping[str, Tensor]) -> nn.Module:
    """With numbers at least as precise as their namesakes: a half-precision net would round what training learnt."""
    for key, value in (*module.named_parameters(), *module.named_buffers()):
        target = state.get(key)
        if target is None or target.dtype.itemsize == 1:  # torch promotes no numbers of 8 bits; any other is wider
            continue
        if target.is_floating_point() and value.is_floating_point():
            value.data = value.data.to(torch.promote_types(value.dtype, target.dtype))
    return module


def shrink_to(module: nn.Module, state: Mapping[str, Tensor]) -> nn.Module:
    """Make every tensor of a module as large as its namesake where that one is smaller.

    The layers' own numbers (`in_features`, `groups`, ...) follow; the values are not copied.

    Args:
        module: The module, changed in place.
        state: Tensors by name.

    Returns:
        The module.
    """
    for name, layer in module.named_modules():
        before = {key: tuple(value.shape) for key, value in _tensors_of(layer)}
        for key, value in _tensors_of(layer):
            target = state.get(f"{name}.{key}" if name else key)
            if target is not None and _is_smaller(target, value):
                value.data = value.data.new_zeros(target.shape)
        if before != {key: tuple(value.shape) for key, value in _tensors_of(layer)}:
            _update_attributes(layer, before)
    return module


def _tensors_of(layer: nn.Module) -> list[tuple[str, Tensor]]:
    return [*layer.named_parameters(recurse=False), *layer.named_buffers(recurse=False)]


def _is_smaller(target: Tensor, value: Tensor) -> bool:
    sizes = list(zip(target.shape, value.shape, strict=False))
    return target.ndim == value.ndim and target.shape != value.shape and all(0 < new <= old for new, old in sizes)


def _update_attributes(layer: nn.Module, before: Mapping[str, tuple[int, ...]]) -> None:
    """Let the layer's own numbers say what its tensors now are; `before`, their shapes until then."""
    if isinstance(layer, _ConvNd):
        _update_convolution(layer, before["weight"])
    elif isinstance(layer, nn.Linear):
        layer.out_features, layer.in_features = layer.weight.shape
    elif isinstance(layer, _BatchNorm):
        layer.num_features = next(len(value) for _, value in _tensors_of(layer) if value.ndim == 1)
    elif isinstance(layer, nn.LayerNorm):
        layer.normalized_shape = tuple(layer.weight.shape)
    elif isinstance(layer, nn.GroupNorm):
        layer.num_channels = len(layer.weight)
    elif isinstance(layer, nn.PReLU):
        layer.num_parameters = len(layer.weight)


def _update_convolution(layer: _ConvNd, before: tuple[int, ...]) -> None:
    first, second = layer.weight.shape[:2]
    if isinstance(layer, _ConvTransposeNd):
        layer.in_channels, layer.out_channels = first, second * layer.groups
        return
    if layer.groups > 1 and before[1] == 1:  # Each group reads one channel: with the channel goes the group.
        layer.groups = first // (before[0] // layer.groups)
    layer.out_channels, layer.in_channels = first, second * layer.groups
