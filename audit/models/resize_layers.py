"""Modules whose layers are made to fit a state dict: fewer channels, or quantised inputs."""

from __future__ import annotations

from collections.abc import Mapping

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
    return restore_quantizers(shrink_to(module, state) if cut else module, state)


def shrink_to(module: nn.Module, state: Mapping[str, Tensor]) -> nn.Module:
    """Make every tensor of a module as large as its namesake where that one is smaller.

    The layers' own numbers (`in_features`, `groups`, ...) follow; the values are not copied.

    Args:
        module: The module, changed in place.
        state: Tensors by name.

    Returns:
        The module.
    """
    for name, part in module.named_modules():
        before = {key: tuple(value.shape) for key, value in _tensors_of(part)}
        for key, value in _tensors_of(part):
            wanted = state.get(f"{name}.{key}" if name else key)
            if wanted is not None and _is_smaller(wanted, value):
                value.data = value.data.new_zeros(wanted.shape)
        if before != {key: tuple(value.shape) for key, value in _tensors_of(part)}:
            _update_attributes(part, before)
    return module


def _tensors_of(part: nn.Module) -> list[tuple[str, Tensor]]:
    return [*part.named_parameters(recurse=False), *part.named_buffers(recurse=False)]


def _is_smaller(wanted: Tensor, value: Tensor) -> bool:
    sizes = list(zip(wanted.shape, value.shape, strict=False))
    return wanted.ndim == value.ndim and wanted.shape != value.shape and all(0 < new <= old for new, old in sizes)


def _update_attributes(part: nn.Module, before: Mapping[str, tuple[int, ...]]) -> None:
    """Let the layer's own numbers say what its tensors now are; `before`, their shapes until then."""
    if isinstance(part, _ConvNd):
        _update_convolution(part, before["weight"])
    elif isinstance(part, nn.Linear):
        part.out_features, part.in_features = part.weight.shape
    elif isinstance(part, _BatchNorm):
        part.num_features = next(len(value) for _, value in _tensors_of(part) if value.ndim == 1)
    elif isinstance(part, nn.LayerNorm):
        part.normalized_shape = tuple(part.weight.shape)
    elif isinstance(part, nn.GroupNorm):
        part.num_channels = len(part.weight)
    elif isinstance(part, nn.PReLU):
        part.num_parameters = len(part.weight)


def _update_convolution(part: _ConvNd, before: tuple[int, ...]) -> None:
    first, second = part.weight.shape[:2]
    if isinstance(part, _ConvTransposeNd):
        part.in_channels, part.out_channels = first, second * part.groups
        return
    if part.groups > 1 and before[1] == 1:  # Each group reads one channel: with the channel goes the group.
        part.groups = first // (before[0] // part.groups)
    part.out_channels, part.in_channels = first, second * part.groups
