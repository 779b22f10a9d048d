"""Batch norm folded into the layer before it: the same function up to rounding, in fewer operations.

In eval mode batch norm is an affine map of each channel, so it can be part of the convolution or of the linear layer
that it follows (Jacob et al. 2018, arXiv:1712.05877, section 3.2). Which layers follow which is seen in a forward that
is watched operation by operation, whatever code makes it.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from audit.core.errors import AuditError
from audit.core.precise import precise
from audit.core.types import Images
from audit.models.forward_watch import OperationWatch, RunningLayers, running_layers
from audit.models.module_copy import copy_module
from audit.models.output_entries import tensors_in

_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_PRODUCTS = {"convolution", "_convolution", "conv1d", "conv2d", "conv3d", "addmm", "mm", "linear"}
_NORMS = {
    *("native_batch_norm", "_native_batch_norm_legit_no_training", "cudnn_batch_norm", "miopen_batch_norm"),
    *("batch_norm", "_batch_norm_no_update", "_batch_norm_impl_index"),
}
_TOLERANCE = 1e-3
"""How far outputs may be from the net's own, as a share of the largest: rounding is below it, a wrong fold above."""


def folded_copy(net: nn.Module, images: Images) -> nn.Module | None:
    """A copy of a net without the batch norms that are part of the layer before them.

    A batch norm is folded where its input is what a convolution or a linear layer gives and no other operation reads
    that, both run once in a forward, neither has a hook, and the layer shares its weights with no other.

    Args:
        net: The net in eval mode, which stays as it is.
        images: A few images as the net takes them, (N, C, H, W).

    Returns:
        The copy; None where nothing can be folded, the net cannot be copied or watched, or the copy answers otherwise.
    """
    if not any(isinstance(layer, nn.modules.batchnorm._BatchNorm) for layer in net.modules()):
        return None
    try:
        copied = copy_module(net)
        pairs = _foldable(copied, images)
        with torch.no_grad():
            for layer, norm in pairs:
                _fold(layer, norm)
        _drop(copied, {id(norm) for _, norm in pairs})
        return copied if pairs and _same_answers(net, copied, images) else None
    except (AuditError, RuntimeError, ValueError, TypeError, AttributeError):  # a user's forward fails as it likes
        return None


class _Uses(OperationWatch):  # type: ignore[no-untyped-call]
    """What gives and what reads the values between layers.

    Attributes:
        running: The layers whose forwards are running, the innermost last.
        made_by: By the id of a value, the layer with weights whose product it is.
        readers: By the id of a value, the layer in which each operation read it, None for one that is no batch norm.
        strangers: Layers whose weights another layer's forward read.
    """

    def __init__(self, net: nn.Module) -> None:
        """Watch a net.

        Args:
            net: The net.
        """
        super().__init__()
        self.running: RunningLayers = []
        self.made_by: dict[int, nn.Module] = {}
        self.readers: dict[int, list[nn.Module | None]] = {}
        self.strangers: set[int] = set()
        self._alive: list[Any] = []
        self._owner = {id(layer._parameters["weight"]): layer for layer in net.modules() if _has_product(layer)}

    def __torch_dispatch__(
        self, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run an operation and note what it read."""
        output = function(*args, **(kwargs or {}))
        name, layer = function.overloadpacket.__name__, self.running[-1][1] if self.running else None
        for value in (leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)):
            owner = self._owner.get(id(value))
            if owner is not None and owner is not layer:
                self.strangers.add(id(owner))
            self.readers.setdefault(id(value), []).append(layer if name in _NORMS else None)
        self._alive += [args, kwargs, output]  # an id is a value's own as long as it lives
        if name in _PRODUCTS and isinstance(output, Tensor) and layer is not None and _has_product(layer):
            self.made_by[id(output)] = layer
        return output


def _has_product(layer: nn.Module) -> bool:
    """Whether it is a convolution or a linear layer with a weight of its own: not one that is computed from others."""
    return isinstance(layer, (*_CONVOLUTIONS, nn.Linear)) and layer._parameters.get("weight") is not None


def _foldable(net: nn.Module, images: Images) -> list[tuple[nn.Module, nn.Module]]:
    """The layers and the batch norms that can be folded into them."""
    runs: Counter[int] = Counter()
    answers: dict[int, int] = {}
    uses, names = _Uses(net), dict(net.named_modules(remove_duplicate=False))

    def on_output(name: str, output: Any) -> None:
        layer = names[name]
        runs[id(layer)] += 1
        if isinstance(output, Tensor):
            answers[id(layer)] = id(output)

    hooked = {id(layer) for layer in net.modules() if layer._forward_hooks or layer._forward_pre_hooks}
    with torch.no_grad(), running_layers(net, on_output) as uses.running, uses:
        net(images)
    once = {key for key, count in runs.items() if count == 1} - hooked - uses.strangers
    owners = Counter(id(p) for layer in net.modules() for p in layer._parameters.values() if p is not None)
    pairs = []
    for value, layer in uses.made_by.items():
        readers = uses.readers.get(value, [])
        norm = readers[0] if len(readers) == 1 else None
        if norm is None or not {id(layer), id(norm)} <= once or answers.get(id(layer)) != value:
            continue
        if owners[id(layer.weight)] == 1 and _same_channels(layer, norm):
            pairs.append((layer, norm))
    return pairs


def _same_channels(layer: nn.Module, norm: nn.Module) -> bool:
    """Whether it is a batch norm with fixed statistics, one for each output of the layer."""
    return (
        isinstance(norm, nn.modules.batchnorm._BatchNorm)
        and isinstance(norm.running_mean, Tensor)
        and isinstance(norm.running_var, Tensor)
        and len(norm.running_mean) == len(layer.weight)  # type: ignore[arg-type]
    )


def _fold(layer: nn.Module, norm: nn.Module) -> None:
    """Weights and biases of the layer with the batch norm behind it, computed in float64."""
    weight, bias = layer.weight, layer.bias
    assert isinstance(weight, nn.Parameter) and isinstance(norm, nn.modules.batchnorm._BatchNorm)
    assert norm.running_mean is not None and norm.running_var is not None
    scale = (precise(norm.running_var) + norm.eps).rsqrt()
    if norm.weight is not None:
        scale = scale * precise(norm.weight)
    shift = -precise(norm.running_mean)
    if isinstance(bias, Tensor):
        shift = shift + precise(bias)
    shift = shift * scale
    if norm.bias is not None:
        shift = shift + precise(norm.bias)
    shape = (-1, *[1] * (weight.ndim - 1))
    layer.weight = nn.Parameter((precise(weight) * scale.view(shape)).to(weight), requires_grad=False)
    layer.bias = nn.Parameter(shift.to(weight), requires_grad=False)


def _drop(net: nn.Module, norms: set[int]) -> None:
    for parent in list(net.modules()):
        for name, child in parent._modules.items():
            if id(child) in norms:
                parent._modules[name] = nn.Identity()


def _same_answers(net: nn.Module, copied: nn.Module, images: Images) -> bool:
    with torch.no_grad():
        expected, given = tensors_in(net(images)), tensors_in(copied(images))
    return expected.keys() == given.keys() and all(
        bool((given[name] - value).abs().max() <= _TOLERANCE * value.abs().max()) for name, value in expected.items()
    )
