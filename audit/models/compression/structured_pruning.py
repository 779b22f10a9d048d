"""Structured pruning: the weakest channels are removed with everything that reads them.

Torch-Pruning (DepGraph, Fang et al. 2023, arXiv:2301.12900) says which tensors a channel runs through. That the smaller
net computes what the net with those numbers at zero computes is measured here; layers that fail that are left whole.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from audit.core.errors import SetupError, UsageError
from audit.models.compression.compress import require_share
from audit.models.module_copy import copy_module
from audit.models.resize_layers import shrink_to

_LIBRARY = "torch-pruning"
_LAYER_TYPES = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear)
_ROUNDING = 1e-6
"""The largest difference, as a share of the largest logit, that float64 could leave between two equal nets."""

_Choice = tuple[str, tuple[int, ...]]
"""The layer that names a group of tied channels, and which of them are removed."""
KeptIndices = Mapping[str, Tensor]
"""By tensor name, the positions in the parent's flattened tensor that remain, int64 in the shape of the pruned one."""


@dataclass(frozen=True)
class PrunedModel:
    """A net without some of its channels.

    Attributes:
        module: The smaller net.
        kept_indices: Which of the parent's numbers it holds.
        unpruned_layers: Names of the hidden layers that lost no output channel.
    """

    module: nn.Module
    kept_indices: KeptIndices
    unpruned_layers: tuple[str, ...]


def prune_channels(module: nn.Module, share: float, images: Tensor) -> PrunedModel:
    """Remove the output channels of least l2 norm in each hidden layer (arXiv:1608.08710 takes l1).

    Layers tied by a sum or by depth-wise reading lose the same channels. Raises SetupError without torch-pruning.

    Args:
        module: The trained module.
        share: Share of the channels of each layer to remove.
        images: What the net is traced and compared on, (N, C, H, W).

    Returns:
        A copy on the CPU without the channels.

    Raises:
        UsageError: When no channel can be removed, or for a share outside (0, 1).
    """
    require_share(share)
    parent, images = copy_module(module).cpu().eval(), images.cpu().contiguous()
    choices, heads = _choices(parent, share, images)
    indices = _verified(parent, choices, images)
    if indices is None:
        harmless = [choice for choice in choices if _verified(parent, [choice], images) is not None]
        indices = _verified(parent, harmless, images)
    if indices is None:
        raise UsageError(
            f"Structured pruning takes whole channels out, and none of {type(module).__name__}'s layers can lose any "
            "without changing what the others compute; use magnitude or int8."
        )
    cut = _cut(parent, indices)
    pruned = dict(cut.named_modules())
    intact = [name for name, layer in _layers(parent) if len(layer.weight) == len(pruned[name].weight)]
    return PrunedModel(_with_flags_of(module, cut), indices, tuple(name for name in intact if name not in heads))


def probe_images(shape: tuple[int, int, int]) -> Tensor:
    """Two images of noise, the same every time, to trace a net on.

    Args:
        shape: (C, H, W).

    Returns:
        Float32 (2, C, H, W) in [0, 1].
    """
    return torch.rand(2, *shape, generator=torch.Generator("cpu").manual_seed(0), device="cpu")


def masked_parent(module: nn.Module, indices: KeptIndices) -> nn.Module:
    """A copy of the parent, in its own shape, with every number at zero that the pruned net lacks.

    Args:
        module: The parent.
        indices: Which of its numbers the pruned net holds.
    """
    twin = copy_module(module)
    with torch.no_grad():
        for name, value in twin.named_parameters():
            mask = torch.zeros(value.numel(), dtype=value.dtype, device=value.device)
            mask[indices[name].flatten().to(mask.device)] = 1
            value.mul_(mask.view_as(value))
    return twin


def _choices(module: nn.Module, share: float, images: Tensor) -> tuple[list[_Choice], set[str]]:
    """For each group of tied channels the weakest; and the layers that the classes are read from, which are spared."""
    twin, graph = _traced(module, images)
    names = {layer: name for name, layer in twin.named_modules()}
    choices: list[_Choice] = []
    heads: set[str] = set()
    for group in graph.get_all_groups(root_module_types=list(_LAYER_TYPES)):
        writers = [member for member in group.items if graph.is_out_channel_pruning_fn(member.dep.handler)]
        if any(not member.dep.target.outputs for member in writers):
            heads |= {names.get(member.dep.target.module, "") for member in writers}
            continue
        dropped = _weakest(_strengths(len(group[0].idxs), writers), share, _blocks(group.items))
        if dropped:
            choices.append((names[group[0].dep.target.module], dropped))
    return sorted(choices), heads


def _strengths(channels: int, writers: Iterable[Any]) -> Tensor:
    """The squared l2 norm of all filters that write to each channel of a group."""
    total = torch.zeros(channels, dtype=torch.float64, device="cpu")
    for member in writers:
        layer = member.dep.target.module
        if isinstance(layer, _LAYER_TYPES):
            norms = layer.weight.detach().cpu().double().flatten(1).square().sum(1)
            total.index_add_(0, torch.tensor(member.root_idxs, device="cpu"), norms[member.idxs])
    return total


def _blocks(members: Iterable[Any]) -> int:
    """Into how many equal blocks a grouped convolution parts the channels; each must lose the same places."""
    layers = [member.dep.target.module for member in members]
    return max((layer.groups for layer in layers if isinstance(layer, nn.Conv2d) and not _each_alone(layer)), default=1)


def _each_alone(layer: nn.Conv2d) -> bool:
    return layer.groups == layer.in_channels


def _weakest(strengths: Tensor, share: float, blocks: int) -> tuple[int, ...]:
    if len(strengths) % blocks:
        return ()
    size = len(strengths) // blocks
    order = strengths.view(blocks, size).sum(0).argsort(stable=True)[: min(round(share * size), size - 1)]
    return tuple(sorted(block * size + channel for block in range(blocks) for channel in order.tolist()))


def _traced(module: nn.Module, images: Tensor) -> tuple[nn.Module, Any]:
    """A copy, and the library's graph of what is tied to what in it. Raises UsageError where it finds none."""
    library = _torch_pruning()
    twin = copy_module(module).eval().requires_grad_(True)
    try:
        with torch.enable_grad():
            graph = library.DependencyGraph().build_dependency(twin, [images], verbose=False)
    except Exception as fault:  # the library says IndexError or worse of a net it cannot follow
        raise UsageError(
            f"Structured pruning cannot follow the channels through {type(module).__name__}; use magnitude or int8."
        ) from fault
    unused = next((name for name, layer in _layers(twin) if layer not in graph.module2node), None)
    if unused is not None:
        raise UsageError(
            f"Structured pruning follows channels on one pass, in which layer {unused} had no part: a net that chooses "
            "its path or carries idle layers cannot be cut safely; use magnitude or int8."
        )
    return twin, graph


def _kept_indices(module: nn.Module, choices: Iterable[_Choice], images: Tensor) -> KeptIndices:
    """What the library keeps, told by numbering every entry of every tensor and looking which numbers remain."""
    twin, graph = _traced(module, images)
    for value in _tensors(twin).values():
        value.data = torch.arange(value.numel(), dtype=torch.float64, device="cpu").view(value.shape)
    layers = dict(twin.named_modules())
    for name, dropped in choices:
        root = layers[name]
        group = graph.get_pruning_group(root, graph.get_pruner_of_module(root).prune_out_channels, list(dropped))
        group.prune()
    return {name: value.detach().long() for name, value in _tensors(twin).items()}


def _cut(module: nn.Module, indices: KeptIndices) -> nn.Module:
    twin = shrink_to(copy_module(module), indices)
    parent = _tensors(module)
    with torch.no_grad():
        for name, value in _tensors(twin).items():
            value.copy_(parent[name].detach().flatten()[indices[name].flatten()].view(indices[name].shape))
    return twin


def _with_flags_of(module: nn.Module, cut: nn.Module) -> nn.Module:
    for old, new in zip(module.modules(), cut.modules(), strict=True):
        new.training = old.training
    return cut


def _verified(module: nn.Module, choices: list[_Choice], images: Tensor) -> KeptIndices | None:
    """The indices that remain, if the net without the channels computes in float64 what it does with them at zero."""
    if not choices:
        return None
    try:
        indices = _kept_indices(module, choices, images)
        with torch.no_grad():
            expected = masked_parent(module, indices).double()(images.double())
            answer = _cut(module, indices).double()(images.double())
    except Exception:  # a net cut where it must not be fails in ways of its own
        return None
    same = answer.shape == expected.shape and (answer - expected).abs().max() <= _ROUNDING * expected.abs().max()
    return indices if same else None


def _layers(module: nn.Module) -> Iterator[tuple[str, Any]]:
    """The convolutions and linear layers; not those inside attention, which reads their weights by itself."""
    attention_layers = [name for name, layer in module.named_modules() if isinstance(layer, nn.MultiheadAttention)]
    for name, layer in module.named_modules():
        if isinstance(layer, _LAYER_TYPES) and not any(name.startswith(f"{outer}.") for outer in attention_layers):
            yield name, layer


def _tensors(module: nn.Module) -> dict[str, Tensor]:
    buffers = {name: value for name, value in module.named_buffers() if value.is_floating_point()}
    return {**dict(module.named_parameters()), **buffers}


def _torch_pruning() -> Any:
    try:
        return importlib.import_module("torch_pruning")
    except ImportError as fault:
        raise SetupError(
            f"Structured pruning needs {_LIBRARY}; install it with pip install 'audit[compress]', or use magnitude."
        ) from fault
