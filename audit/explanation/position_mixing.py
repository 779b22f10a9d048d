"""Whether a forward mixes the positions of a layer's map after that layer: by attention, a dense layer over tokens, a
Fourier transform, a pooling that keeps the size, written as it may be.

Two far positions are followed through the forward, operation by operation: each operation is asked again with its input
changed at one of them alone, and where its output changes is where that position has gone to. Pooling brings positions
together and leaves none; mixing brings them together and leaves as many. Convolutions may: a map before one is coarser,
not elsewhere.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_flatten, tree_unflatten

from audit.core.precise import precise
from audit.core.types import Images
from audit.explanation.forward_trace import Operation, float_tensors, noise_like, traced_forward
from audit.models.under_test import ModelUnderTest

_HOT = 0.4
"""Share of the largest change along an axis from which an index counts as changed: normalisation over positions spreads
a little of each to all."""
_APART = 0.25
"""Cosine up to which the changes that two positions make along an axis count as apart."""
_CHANGES = 6
_GROWN = 1.5
_SMALL = 1e-5
_MOST = 3
"""Ways by which a position may reach one tensor that are told apart: attention weights have two, the row and the
column."""

Profile = list[Tensor]
"""By axis, how much a position changes each index, float (size,), zero where little."""
Spread = tuple[Profile, Profile]
"""The profiles of the two positions."""
_Key = tuple[int, tuple[int, ...], tuple[int, ...]]


@dataclass
class PassedOn:
    """What became of a layer's positions.

    Attributes:
        mixes: The layer, or the operation, that mixes them in a tensor of whose parts more than one reach the logits;
            empty for none.
        sums: By number of the operation, the clean result where the map is added to what came another way.
    """

    mixes: str = ""
    sums: dict[int, Tensor] = field(default_factory=dict)


def positions_after(model: ModelUnderTest, image: Images, layer: str) -> PassedOn:
    """Follow two positions of a layer's map (N, K, h, w) to the logits.

    Args:
        model: The model; a forward whose operations from the layer on run a dozen times, and three for each that mixes;
            not counted.
        image: Float32 (1, C, H, W).
        layer: The name of the layer.
    """
    tracker = _Tracker()
    traced_forward(model, image, tracker.see, lambda name, output: tracker.start(output) if name == layer else None)
    for number, axis, size, name in tracker.mixed:
        if _several_matter(model, image, number, axis, size):
            return PassedOn(name, tracker.sums)
    return PassedOn("", tracker.sums)


def _several_matter(model: ModelUnderTest, image: Images, number: int, axis: int, size: int) -> bool:
    """Whether the logits depend on both halves, drawn at random, of a result along an axis of that size: of a class
    token alone, on one."""
    generator = torch.Generator(device="cpu").manual_seed(5)
    clean = traced_forward(model, image)

    def changed(half: Tensor) -> bool:
        def see(operation: Operation) -> Any:
            result = operation.run()
            if operation.number == number:
                tensor = float_tensors(result)[0]
                rows = half.to(tensor.device).view([-1 if a == axis else 1 for a in range(tensor.ndim)])
                tensor.add_(noise_like(tensor, generator) * rows)
            return result

        return float((traced_forward(model, image, see) - clean).abs().max()) > _SMALL * float(clean.abs().max())

    half = torch.zeros(size, dtype=torch.bool, device="cpu")
    half[torch.randperm(size, generator=generator, device="cpu")[: size // 2]] = True
    return changed(half) and changed(~half)


class _Tracker:
    """Where the two positions are, in every tensor they have reached."""

    def __init__(self) -> None:
        self.spreads: dict[_Key, list[Spread]] = {}
        self.summaries: set[_Key] = set()
        self.kept: list[Tensor] = []
        self.mixed: list[tuple[int, int, int, str]] = []
        self.sums: dict[int, Tensor] = {}
        self.generator = torch.Generator(device="cpu").manual_seed(4)

    def start(self, output: Tensor) -> None:
        """Begin at the layer's output; of a layer that runs more than once, at the last."""
        self.spreads, self.summaries, self.mixed, self.sums = {}, set(), [], {}
        rows, columns = output.shape[2:]
        corners = ((0, 0), (rows - 1, columns - 1))
        profiles = [
            [torch.ones(size, dtype=torch.float64, device="cpu") for size in output.shape[:2]]
            + [
                (torch.arange(size, device="cpu") == at).double()
                for size, at in zip(output.shape[2:], corner, strict=True)
            ]
            for corner in corners
        ]
        self._keep(output, [(profiles[0], profiles[1])])

    def see(self, operation: Operation) -> Any:
        """Run the operation, and say where the positions are in its results."""
        inputs = [tensor for tensor in operation.tensors if _key(tensor) in self.spreads]
        if not inputs:
            return operation.run()
        before = [(tensor, spread) for tensor in inputs for spread in self.spreads[_key(tensor)]]
        again = _Again(operation)
        result = operation.run()
        outputs = float_tensors(result)
        answers = [
            [again.ask(tensor, spread, position, self.generator) for position in (0, 1)] for tensor, spread in before
        ]
        for index, output in enumerate(outputs):
            arrived = [
                (tensor, spread, (_profile(first[index]), _profile(second[index])))
                for (tensor, spread), (first, second) in zip(before, answers, strict=True)
                if _moves(first[index], output) and _moves(second[index], output)
            ]
            self._judge(operation, output, arrived, first=index == 0)
        return result

    def _judge(
        self, operation: Operation, output: Tensor, arrived: list[tuple[Tensor, Spread, Spread]], *, first: bool
    ) -> None:
        local = [(tensor, spread, to) for tensor, spread, to in arrived if _axes_apart(to)]
        everywhere = [(tensor, spread) for tensor, spread, to in arrived if not _axes_apart(to)]
        convolves = "conv" in operation.name and all(1 not in _axes_apart(spread) for _, spread, _ in arrived)
        storage = output.untyped_storage().data_ptr()
        moves_only = any(storage == tensor.untyped_storage().data_ptr() for tensor, _, _ in arrived)
        if (
            first
            and not (convolves or moves_only)
            and (axis := self._mixing_axis(operation, output, local, everywhere)) is not None
        ):
            self.mixed.append((operation.number, axis, output.shape[axis], operation.layer or operation.name))
        if local:
            self._keep(output, _distinct([to for _, _, to in local]))
            if first and operation.name.startswith("aten.add") and self._meets_another(operation, output):
                self.sums[operation.number] = output.clone()
        elif arrived and sum(size > 1 for size in output.shape) > 1:
            self.summaries.add(_key(output))
            self.kept.append(output)

    def _mixing_axis(
        self,
        operation: Operation,
        output: Tensor,
        local: list[tuple[Tensor, Spread, Spread]],
        everywhere: list[tuple[Tensor, Spread]],
    ) -> int | None:
        """The axis of the output along which positions are mixed and still are several; None where they are not."""
        for tensor, spread, to in local:
            axes, now = _axes_apart(spread), _axes_apart(to)
            same = tensor.ndim == output.ndim and all(tensor.shape[a] == output.shape[a] for a in axes)
            if everywhere or (same and _count(to, axes) >= _GROWN * _count(spread, axes)):
                return now[0]
            if "mm" in operation.name and any(_key(other) in self.summaries for other in operation.tensors):
                return now[0]
        if local or len({_key(tensor) for tensor, _ in everywhere}) != 1:
            return None
        tensor, spread = everywhere[0]
        if tensor.ndim != output.ndim:
            return None
        axes = _axes_apart(spread)
        others = [size for axis, size in enumerate(output.shape) if axis not in axes and size > 1]
        return next((axis for axis in axes if output.shape[axis] > 1), None) if others else None

    def _meets_another(self, operation: Operation, output: Tensor) -> bool:
        others = [tensor for tensor in operation.tensors if _key(tensor) not in self.spreads]
        return any(tensor.shape == output.shape for tensor in others)

    def _keep(self, tensor: Tensor, spreads: list[Spread]) -> None:
        self.spreads[_key(tensor)] = spreads[:_MOST]
        self.kept.append(tensor)


class _Again:
    """An operation asked again on copies of what it was given, which it may write over."""

    def __init__(self, operation: Operation) -> None:
        self.function = operation.function
        flat, self.structure = tree_flatten((operation.args, operation.kwargs))
        writes = any(
            argument.alias_info is not None and argument.alias_info.is_write for argument in _schema(operation)
        )
        self.flat = [leaf.clone() if writes and isinstance(leaf, Tensor) else leaf for leaf in flat]
        self.keys = [_key(leaf) if isinstance(leaf, Tensor) else None for leaf in flat]
        self.writes = writes

    def ask(self, tensor: Tensor, spread: Spread, position: int, generator: torch.Generator) -> list[Tensor]:
        """How much each result changes when the tensor changes there, the root mean square over several changes."""
        key, mask = _key(tensor), _mask(spread[position]).to(tensor.device)
        clean = self._run(key, torch.zeros_like(tensor))
        moved = [self._run(key, noise_like(tensor, generator) * mask) for _ in range(_CHANGES)]
        return [
            torch.stack([(other - own).abs().nan_to_num() for other in others]).float().square().mean(0).sqrt().cpu()
            for own, *others in zip(clean, *moved, strict=True)
        ]

    def _run(self, key: _Key, change: Tensor) -> list[Tensor]:
        flat = [leaf.clone() if self.writes and isinstance(leaf, Tensor) else leaf for leaf in self.flat]
        flat = [leaf + change if own == key else leaf for leaf, own in zip(flat, self.keys, strict=True)]
        args, kwargs = tree_unflatten(flat, self.structure)
        return [result.clone() for result in float_tensors(self.function(*args, **kwargs))]


def _schema(operation: Operation) -> Any:
    return operation.function._schema.arguments


def _key(tensor: Tensor) -> _Key:
    return tensor.data_ptr(), tuple(tensor.shape), tuple(tensor.stride())


def _moves(change: Tensor, output: Tensor) -> bool:
    return change.numel() > 0 and float(change.max()) > _SMALL * (float(output.abs().max()) + 1e-12)


def _profile(change: Tensor) -> Profile:
    """By axis, the indices at which the root mean square of the change is no small part of the largest."""
    squares = precise(change) ** 2
    profile = []
    for axis in range(change.ndim):
        others = [other for other in range(change.ndim) if other != axis]
        along = (squares.mean(others) if others else squares).sqrt()
        profile.append(along.where(along > _HOT * along.max(), 0))
    return profile


def _axes_apart(spread: Spread) -> list[int]:
    """The axes along which the two positions are at different places."""
    pairs = enumerate(zip(*spread, strict=True))
    return [axis for axis, (a, b) in pairs if float(a @ b) <= _APART * float(a.norm() * b.norm())]


def _count(spread: Spread, axes: list[int]) -> float:
    """How many indices one position takes along the axes."""
    return max(sum(float((profile[axis] > 0).sum()) for axis in axes) for profile in spread)


def _mask(profile: Profile) -> Tensor:
    mask = torch.ones([1] * len(profile), device="cpu")
    for axis, along in enumerate(profile):
        mask = mask * (along > 0).float().view([-1 if a == axis else 1 for a in range(len(profile))])
    return mask


def _distinct(spreads: list[Spread]) -> list[Spread]:
    """Without those of the same axes as one before, into which they are merged."""
    merged: dict[tuple[int, ...], Spread] = {}
    for spread in spreads:
        axes = tuple(_axes_apart(spread))
        known = merged.get(axes)
        merged[axes] = spread if known is None else (_union(known[0], spread[0]), _union(known[1], spread[1]))
    return list(merged.values())


def _union(first: Profile, second: Profile) -> Profile:
    return [torch.maximum(a, b) for a, b in zip(first, second, strict=True)]
