"""Smaller models from a trained one: pruned, clipped or in int8 weights. The original is never touched. What takes
whole channels out of a net is in `cutting`.

Each gives a plain float32 module, so that every attack and every attribution applies to it as to its parent.
"""

from __future__ import annotations

import copy
import time
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from importlib.metadata import PackageNotFoundError, version

import torch
from safetensors.torch import save as pack
from torch import Tensor, nn

from audit.core.errors import UsageError

Masks = Mapping[str, Tensor]
"""By parameter name, 1.0 where a weight is kept and 0.0 where it is pruned."""

_LEVELS = 127
_RUNS = 15
_SCALE = ".scale"

AMOUNTS: Mapping[str, float] = {"magnitude": 0.5, "structured": 0.3, "clip": 2.5}
"""The usual amount of each method that has one: shares to prune, standard deviations to clip at."""


_REVISIONS: Mapping[str, tuple[str, str]] = {"structured": ("cut-1", "torch-pruning"), "int8": ("static-1", "")}
"""What joins the version of a cell where a method does otherwise than it once did: its own, and its library's name."""


def revision_of(method: str) -> str:
    """What a compression adds to the version of its cell: its revision and the version of the library that works."""
    if method not in _REVISIONS:
        return ""
    revision, library = _REVISIONS[method]
    if not library:
        return f"/{revision}"
    try:
        return f"/{revision}+{library}-{version(library)}"
    except PackageNotFoundError:
        return f"/{revision}+{library}-missing"


def amount_of(method: str, given: float | None) -> float | None:
    """The amount of a compression, its usual one where none is given.

    Raises UsageError for a method that takes none, a share outside (0, 1) or a distance not above 0.
    """
    if method not in AMOUNTS:
        if given is not None:
            raise UsageError(f"{method} takes no amount, and {given:g} was given; leave --amount out.")
        return None
    amount = AMOUNTS[method] if given is None else given
    if method == "clip":
        _require_distance(amount)
    else:
        require_share(amount)
    return amount


def prune_weights(module: nn.Module, share: float) -> tuple[nn.Module, Masks]:
    """A copy without the `share` of weights smallest in magnitude over all layers together (arXiv:1506.02626).

    Biases and norm scales are spared. Raises UsageError for a share outside (0, 1).
    """
    require_share(share)
    twin = copy.deepcopy(module)
    weights = _matrices(twin)
    sizes = torch.cat([weight.detach().abs().flatten() for weight in weights.values()])
    threshold = sizes.kthvalue(max(1, round(share * sizes.numel()))).values
    masks = {name: (weight.detach().abs() > threshold).to(weight.dtype) for name, weight in weights.items()}
    _apply(twin, masks)
    return twin, masks


def clip_weights(module: nn.Module, deviations: float) -> nn.Module:
    """A copy with the weights of every matrix clamped to its mean plus or minus `deviations` standard deviations."""
    _require_distance(deviations)
    twin = copy.deepcopy(module)
    with torch.no_grad():
        for weight in _matrices(twin).values():
            centre, reach = weight.mean(), deviations * weight.std(correction=0)
            weight.copy_(weight.clamp(centre - reach, centre + reach))
    return twin


def quantize_weights(module: nn.Module) -> tuple[nn.Module, dict[str, Tensor]]:
    """A copy whose matrices hold only what int8 can say, and its packed form.

    Symmetric, one scale an output channel: weight = scale x integer in -127..127 (arXiv:1806.08342). The packed
    tensors are int8 with float32 scales under "NAME.scale"; what the inputs are rounded to is the affair of `int8`.
    """
    twin = copy.deepcopy(module)
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
    """The float32 state dict that `quantise` packed; any other as it is."""
    packed = {name for name, value in state.items() if value.dtype == torch.int8 and f"{name}{_SCALE}" in state}
    scales = {f"{name}{_SCALE}" for name in packed}
    plain = {name: value for name, value in state.items() if name not in packed | scales}
    return plain | {
        name: state[name] * state[f"{name}{_SCALE}"].view(-1, *[1] * (state[name].ndim - 1)) for name in packed
    }


@contextmanager
def kept_pruned(module: nn.Module, masks: Masks) -> Iterator[None]:
    """Inside the block no gradient reaches a pruned weight: fine-tuning cannot bring it back."""
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


@dataclass(frozen=True)
class Footprint:
    """`parameters` in number, `nonzero` of them not 0; `bytes` of the weights as stored and `compressed_bytes`
    after zlib; the same for a model whatever the machine."""

    parameters: int
    nonzero: int
    bytes: int
    compressed_bytes: int


def footprint(module: nn.Module, packed: Mapping[str, Tensor] | None = None) -> Footprint:
    """The size of a module; `packed` is what would be stored instead of its float32 weights."""
    parameters = [parameter.detach() for parameter in module.parameters()]
    stored = {name: value.detach().cpu().contiguous() for name, value in (packed or module.state_dict()).items()}
    body = pack(stored)
    return Footprint(
        parameters=sum(parameter.numel() for parameter in parameters),
        nonzero=sum(int(parameter.count_nonzero()) for parameter in parameters),
        bytes=len(body),
        compressed_bytes=len(zlib.compress(body)),
    )


def paired_latency(first: nn.Module, second: nn.Module, images: Tensor) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Seconds for one forward of `images` by each of two modules, in turn, run by run: what slows the machine for a
    moment slows both. A first run of each is not counted."""
    modes = first.training, second.training
    first.eval(), second.eval()
    try:
        with torch.no_grad():
            runs = [(_seconds(first, images), _seconds(second, images)) for _ in range(_RUNS + 1)]
    finally:
        first.train(modes[0]), second.train(modes[1])
    ours, theirs = zip(*runs[1:], strict=True)
    return ours, theirs


def _seconds(module: nn.Module, images: Tensor) -> float:
    begun = time.perf_counter()
    module(images).sum().item()
    return time.perf_counter() - begun


def _matrices(module: nn.Module) -> dict[str, nn.Parameter]:
    return {name: parameter for name, parameter in module.named_parameters() if parameter.ndim > 1}


@torch.no_grad()
def _apply(module: nn.Module, masks: Masks) -> None:
    for name, parameter in module.named_parameters():
        if name in masks:
            parameter.mul_(masks[name])


def _require_distance(deviations: float) -> None:
    if deviations <= 0:
        raise UsageError(f"Weights can be clipped at a positive number of standard deviations, not at {deviations:g}.")


def require_share(share: float) -> None:
    """Raises UsageError for a share outside (0, 1)."""
    if not 0 < share < 1:
        raise UsageError(f"The share of weights to prune must lie between 0 and 1, and {share:g} does not; try 0.5.")
