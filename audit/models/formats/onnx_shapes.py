"""ONNX operators that move, cut and join without computing."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from audit.models.formats.onnx_node import TYPES, Node, axes_of, ints, operator_of


@operator_of("Identity")
def _identity(node: Node, values: Any) -> Any:
    return values


@operator_of("Constant")
def _constant(node: Node) -> Tensor:
    name, value = next(iter(node.attributes.items()))
    if name not in ("value", "value_float", "value_floats", "value_int", "value_ints"):
        raise TypeError(f"constants given as {name} are not converted")
    return value if isinstance(value, Tensor) else torch.tensor(value)


@operator_of("Shape")
def _shape(node: Node, values: Any) -> Tensor:
    return torch.tensor(values.shape, dtype=torch.int64, device="cpu")[node.get("start", 0) : node.get("end")]


@operator_of("Size")
def _size(node: Node, values: Any) -> Tensor:
    return torch.tensor(values.numel(), dtype=torch.int64, device="cpu")


@operator_of("Reshape")
def _reshape(node: Node, values: Any, target: Any = None) -> Any:
    sizes = ints(target if target is not None else node.attributes["shape"])
    if not node.get("allowzero", 0):
        sizes = [values.size(i) if size == 0 else size for i, size in enumerate(sizes)]
    return values.reshape(sizes)


@operator_of("Flatten")
def _flatten(node: Node, values: Any) -> Any:
    axis = node.get("axis", 1)
    axis = axis + node.ranks[0] if axis < 0 else axis
    if axis == 1:
        return torch.flatten(values, 1) if node.ranks[0] > 1 else values[:, None]
    return values.reshape(math.prod(values.shape[:axis]), -1)


@operator_of("Squeeze")
def _squeeze(node: Node, values: Any, given: Any = None) -> Any:
    axes = axes_of(node, given)
    return values.squeeze() if axes is None else values.squeeze(tuple(axes))


@operator_of("Unsqueeze")
def _unsqueeze(node: Node, values: Any, given: Any = None) -> Any:
    axes = axes_of(node, given) or []
    rank = node.ranks[0] + len(axes)
    for axis in sorted(axis % rank for axis in axes):
        values = values.unsqueeze(axis)
    return values


@operator_of("Transpose")
def _transpose(node: Node, values: Any) -> Any:
    return values.permute(node.get("perm") or list(range(node.ranks[0]))[::-1])


@operator_of("Concat")
def _concat(node: Node, *parts: Any) -> Any:
    return torch.cat(parts, node.get("axis", 1))


@operator_of("Split")
def _split(node: Node, values: Any, given: Any = None) -> Any:
    axis, sizes = node.get("axis", 0), given if given is not None else node.get("split")
    if sizes is None:
        parts = values.split(-(-values.size(axis) // node.outputs), axis)
    else:
        parts = values.split(ints(sizes), axis)
    return [parts[i] for i in range(node.outputs)]


@operator_of("Slice")
def _slice(node: Node, values: Any, starts: Any = None, ends: Any = None, axes: Any = None, steps: Any = None) -> Any:
    first = ints(starts if starts is not None else node.attributes["starts"])
    last = ints(ends if ends is not None else node.attributes["ends"])
    along = axes_of(node, axes, list(range(len(first)))) or []
    by = ints(steps) if steps is not None else [1] * len(first)
    for start, end, axis, step in zip(first, last, along, by, strict=True):
        if step > 0:
            end = None if end >= 2**31 - 1 else end  # "to the end" as exporters write it
            start = max(start, -(2**31))
            values = values[(slice(None),) * (axis % node.ranks[0]) + (slice(start, end, step),)]
        else:
            chosen = range(*slice(start, None if end <= -(2**31) else end, step).indices(values.size(axis)))
            values = values.index_select(axis, torch.tensor(list(chosen), device=values.device))
    return values


@operator_of("Gather")
def _gather(node: Node, values: Any, indices: Any) -> Any:
    axis = node.get("axis", 0) % max(node.ranks[0], 1)
    if isinstance(indices, Tensor) and indices.dim() == 0 and indices.device.type == "cpu":
        return values.select(axis, int(indices))
    places = indices.long().to(values.device)
    return values[(slice(None),) * axis + (torch.where(places < 0, places + values.size(axis), places),)]


@operator_of("GatherInEach")
def _gather_in_each(node: Node, values: Any, indices: Any) -> Any:
    """Not of ONNX: the same places of each image, where all images lie in one row."""
    rows = values.reshape(-1, node.attributes["width"])
    return rows[:, indices.flatten().to(values.device)].reshape(-1, *indices.shape[1:])


@operator_of("GatherElements")
def _gather_elements(node: Node, values: Any, indices: Any) -> Any:
    axis, places = node.get("axis", 0), indices.long().to(values.device)
    return torch.gather(values, axis, torch.where(places < 0, places + values.size(axis), places))


@operator_of("GatherND")
def _gather_nd(node: Node, values: Any, indices: Any) -> Any:
    if node.get("batch_dims", 0):
        depth = node.get("batch_dims") - 1
        pairs = zip(values.flatten(0, depth), indices.flatten(0, depth), strict=True)
        rows = torch.stack([value[tuple(index.long().unbind(-1))] for value, index in pairs])
        return rows.reshape(*values.shape[: node.get("batch_dims")], *rows.shape[1:])
    return values[tuple(indices.long().to(values.device).unbind(-1))]


@operator_of("ScatterND")
def _scatter_nd(node: Node, values: Any, indices: Any, updates: Any) -> Any:
    if node.get("reduction", "none") not in ("none", "add"):
        raise TypeError(f"ScatterND with reduction {node.get('reduction')} is not converted")
    places = tuple(indices.long().to(values.device).unbind(-1))
    return values.index_put(places, updates, accumulate=node.get("reduction", "none") == "add")


@operator_of("ScatterElements", "Scatter")
def _scatter_elements(node: Node, values: Any, indices: Any, updates: Any) -> Any:
    axis, places = node.get("axis", 0), indices.long().to(values.device)
    places = torch.where(places < 0, places + values.size(axis), places)
    reduction = {"add": "sum", "mul": "prod", "max": "amax", "min": "amin"}.get(node.get("reduction", "none"))
    if reduction:
        return values.scatter_reduce(axis, places, updates, reduction)
    return values.scatter(axis, places, updates)


@operator_of("Expand")
def _expand(node: Node, values: Any, target: Any) -> Any:
    sizes = ints(target)
    sizes = [1] * (node.ranks[0] - len(sizes)) + sizes
    own = len(sizes) - node.ranks[0]
    return values.expand([-1 if size == 1 and i >= own else size for i, size in enumerate(sizes)])


@operator_of("WithBatch")
def _with_batch(node: Node, row: Any, batch: Any) -> Any:
    """Not of ONNX: a constant repeated for each image of a batch."""
    return row.expand(batch.size(0), *[-1] * (node.ranks[0] - 1))


@operator_of("Tile")
def _tile(node: Node, values: Any, repeats: Any) -> Any:
    return values.repeat(ints(repeats))


@operator_of("ConstantOfShape")
def _constant_of_shape(node: Node, sizes: Any) -> Tensor:
    value: Tensor = node.get("value", torch.zeros(1))
    return value.to(sizes.device).reshape(()).repeat(ints(sizes))


@operator_of("Range")
def _range(node: Node, start: Any, limit: Any, delta: Any) -> Tensor:
    numbers = torch.arange(start.item(), limit.item(), delta.item(), device=start.device)
    return numbers.to(node.types[0]) if node.types[0] else numbers


@operator_of("OneHot")
def _one_hot(node: Node, indices: Any, depth: Any, values: Any) -> Any:
    size, axis = int(depth), node.get("axis", -1)
    hot = functional.one_hot(indices.long() % size, size).bool() & (indices.long().abs() <= size)[..., None]
    return torch.where(hot, values[1], values[0]).movedim(-1, axis)


@operator_of("EyeLike")
def _eye_like(node: Node, values: Any) -> Tensor:
    rows, columns = values.shape
    kind = TYPES[node.get("dtype")] if node.get("dtype") else node.types[0]
    eye = torch.ones(rows, columns, device=values.device).triu(node.get("k", 0)).tril(node.get("k", 0))
    return eye.to(kind)


@operator_of("NonZero")
def _non_zero(node: Node, values: Any) -> Any:
    return values.nonzero().T


@operator_of("Trilu")
def _trilu(node: Node, values: Any, offset: Any = None) -> Any:
    diagonal = int(offset) if offset is not None else 0
    return torch.triu(values, diagonal) if node.get("upper", 1) else torch.tril(values, diagonal)


@operator_of("Einsum")
def _einsum(node: Node, *terms: Any) -> Any:
    return torch.einsum(node.attributes["equation"], *terms)


@operator_of("DepthToSpace")
def _depth_to_space(node: Node, values: Any) -> Any:
    size = node.attributes["blocksize"]
    if node.get("mode", "DCR") == "CRD":
        return functional.pixel_shuffle(values, size)
    n, c, h, w = values.shape
    blocks = values.reshape(n, size, size, c // size**2, h, w).permute(0, 3, 4, 1, 5, 2)
    return blocks.reshape(n, c // size**2, h * size, w * size)


@operator_of("SpaceToDepth")
def _space_to_depth(node: Node, values: Any) -> Any:
    size = node.attributes["blocksize"]
    if node.get("mode", "DCR") != "DCR":
        raise TypeError("SpaceToDepth in another mode than DCR is not converted")
    n, c, h, w = values.shape
    blocks = values.reshape(n, c, h // size, size, w // size, size).permute(0, 3, 5, 1, 2, 4)
    return blocks.reshape(n, c * size**2, h // size, w // size)


@operator_of("Pad")
def _pad(node: Node, values: Any, pads: Any = None, value: Any = None, axes: Any = None) -> Any:
    amounts = ints(pads if pads is not None else node.get("pads", node.get("paddings")))
    along = [axis % node.ranks[0] for axis in ints(axes)] if axes is not None else list(range(node.ranks[0]))
    before, after = [0] * node.ranks[0], [0] * node.ranks[0]
    for i, axis in enumerate(along):
        before[axis], after[axis] = amounts[i], amounts[i + len(along)]
    number = float(value) if value is not None else node.get("value", 0.0)
    return padded(values, before, after, node.get("mode", "constant"), number)


def padded(values: Any, before: list[int], after: list[int], mode: str, number: float = 0.0) -> Any:
    """The tensor with more rows before and after along each axis, or fewer where an amount is negative.

    Args:
        values: The tensor.
        before: How many, one an axis.
        after: How many, one an axis.
        mode: "constant", "reflect", "edge" or "wrap".
        number: What constant padding is filled with.

    Raises:
        TypeError: The mode is another.
    """
    if mode == "constant":
        flat = [amount for pair in zip(before[::-1], after[::-1], strict=True) for amount in pair]
        while flat and flat[-2:] == [0, 0]:
            flat = flat[:-2]
        return functional.pad(values, flat, value=number) if flat else values
    for axis, (low, high) in enumerate(zip(before, after, strict=True)):
        if not low and not high:
            continue
        size = values.size(axis)
        places = torch.arange(-low, size + high, device=values.device)
        if mode == "edge":
            places = places.clamp(0, size - 1)
        elif mode == "wrap":
            places = places % size
        elif mode == "reflect":
            places = (size - 1) - ((places % max(2 * (size - 1), 1)) - (size - 1)).abs()
        else:
            raise TypeError(f"padding in mode {mode} is not converted")
        values = values.index_select(axis, places)
    return values
