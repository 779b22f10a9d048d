"""Smaller models from a trained one: weights pruned, clipped or rounded to int8. The original is never changed.

Each gives a plain float32 module, so that every attack and every attribution applies to it as to its parent.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from importlib.metadata import PackageNotFoundError, version

import torch
from torch import Tensor, nn

from audit.core.errors import UsageError
from audit.models.module_copy import copy_module

WeightMasks = Mapping[str, Tensor]
"""By parameter name, 0.0 where a weight is pruned and 1.0 elsewhere."""

_LEVELS = 127
_SCALE = ".scale"

AMOUNTS: Mapping[str, float] = {"magnitude": 0.5, "structured": 0.3, "clip": 2.5}
"""The usual amount of each method that has one: shares to prune, standard deviations to clip at."""


_REVISIONS: Mapping[str, tuple[str, str]] = {
    "structured": ("cut-1", "torch-pruning"),
    "int8": ("static-2", "onnxruntime"),
}
"""For methods whose results have changed: the revision that joins the version of their cells, and the library used."""


def revision_of(method: str) -> str:
    """What a compression adds to the version of its cells: its revision and the version of the library it uses.

    Args:
        method: magnitude, structured, clip, int8 or distill.
    """
    if method not in _REVISIONS:
        return ""
    revision, library = _REVISIONS[method]
    try:
        return f"/{revision}+{library}-{version(library)}"
    except PackageNotFoundError:
        return f"/{revision}+{library}-missing"


def amount_of(method: str, amount: float | None) -> float | None:
    """The amount of a compression.

    Args:
        method: magnitude, structured, clip, int8 or distill.
        amount: Share of weights or channels to prune, or standard deviations to clip at; None for the usual one.

    Returns:
        The amount; None for a method that has none.

    Raises:
        UsageError: For a method that takes no amount, a share outside (0, 1) or a distance not above 0.
    """
    if method not in AMOUNTS:
        if amount is not None:
            raise UsageError(f"{method} takes no amount, and {amount:g} was given; leave --amount out.")
        return None
    amount = AMOUNTS[method] if amount is None else amount
    if method == "clip":
        _require_distance(amount)
    else:
        require_share(amount)
    return amount


def prune_weights(module: nn.Module, share: float) -> tuple[nn.Module, WeightMasks]:
    """Set the weights of least magnitude over all layers together to zero (arXiv:1506.02626).

    Biases and norm scales are left. Raises UsageError for a share outside (0, 1).

    Args:
        module: The trained module.
        share: Share of the weights to prune.

    Returns:
        A pruned copy, and the masks of its weights.
    """
    require_share(share)
    twin = copy_module(module)
    weights = _matrices(twin)
    sizes = torch.cat([weight.detach().abs().flatten() for weight in weights.values()])
    threshold = sizes.kthvalue(max(1, round(share * sizes.numel()))).values
    masks = {name: (weight.detach().abs() > threshold).to(weight.dtype) for name, weight in weights.items()}
    _apply(twin, masks)
    return twin, masks


def clip_weights(module: nn.Module, deviations: float) -> nn.Module:
    """A copy with the weights of every matrix clamped around its mean. Raises UsageError for a distance not above 0.

    Args:
        module: The trained module.
        deviations: Largest distance from the mean, in standard deviations of the matrix.
    """
    _require_distance(deviations)
    twin = copy_module(module)
    with torch.no_grad():
        for weight in _matrices(twin).values():
            centre, limit = weight.mean(), deviations * weight.std(correction=0)
            weight.copy_(weight.clamp(centre - limit, centre + limit))
    return twin


def quantize_weights(module: nn.Module) -> tuple[nn.Module, dict[str, Tensor]]:
    """Round the matrices to symmetric int8 with one scale an output channel: weight = scale x integer in -127..127.

    This is the weight quantisation of Krishnamoorthi 2018 (arXiv:1806.08342); what flows between layers is rounded
    by `audit.models.compression.static_int8`.

    Args:
        module: The trained module.

    Returns:
        A copy that holds the rounded weights in float32, and its packed tensors: int8, with scales under "NAME.scale".
    """
    twin = copy_module(module)
    matrices = _matrices(twin)
    packed = {name: value.detach().clone() for name, value in twin.state_dict().items() if name not in matrices}
    with torch.no_grad():
        for name, weight in matrices.items():
            scale = weight.flatten(1).abs().amax(1).clamp(min=1e-12) / _LEVELS
            shaped = scale.view(-1, *[1] * (weight.ndim - 1))
            levels = (weight / shaped).round().clamp(-_LEVELS, _LEVELS)
            weight.copy_(levels * shaped)
            packed |= {name: levels.to(torch.int8), f"{name}{_SCALE}": scale}
    return twin, packed


def unpack(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The float32 state dict of one that `quantize_weights` packed; any other as it is.

    Args:
        state: The state dict.
    """
    packed = {name for name, value in state.items() if value.dtype == torch.int8 and f"{name}{_SCALE}" in state}
    scales = {f"{name}{_SCALE}" for name in packed}
    plain = {name: value for name, value in state.items() if name not in packed | scales}
    return plain | {
        name: state[name] * state[f"{name}{_SCALE}"].view(-1, *[1] * (state[name].ndim - 1)) for name in packed
    }


@contextmanager
def keep_pruned(module: nn.Module, masks: WeightMasks) -> Iterator[None]:
    """Inside the block no gradient reaches a pruned weight, so that fine-tuning leaves it at zero.

    Args:
        module: The pruned module.
        masks: The masks of its weights.
    """
    parameters = dict(module.named_parameters())

    handles = [
        parameters[name].register_hook(partial(_times, mask))  # type: ignore[no-untyped-call]
        for name, mask in masks.items()
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _times(mask: Tensor, gradient: Tensor) -> Tensor:
    return gradient * mask.to(gradient)


def _matrices(module: nn.Module) -> dict[str, nn.Parameter]:
    return {name: parameter for name, parameter in module.named_parameters() if parameter.ndim > 1}


@torch.no_grad()
def _apply(module: nn.Module, masks: WeightMasks) -> None:
    for name, parameter in module.named_parameters():
        if name in masks:
            parameter.mul_(masks[name])


def _require_distance(deviations: float) -> None:
    if deviations <= 0:
        raise UsageError(f"Weights can be clipped at a positive number of standard deviations, not at {deviations:g}.")


def require_share(share: float) -> None:
    """Refuse a share that is none.

    Args:
        share: The share to prune.

    Raises:
        UsageError: When it is outside (0, 1).
    """
    if not 0 < share < 1:
        raise UsageError(f"The share of weights to prune must lie between 0 and 1, and {share:g} does not; try 0.5.")
