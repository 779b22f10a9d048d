"""ONNX's Resize and Upsample: along each axis a matrix of weights, whichever way coordinates are meant."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from audit.models.formats.onnx_node import Node, ints, operator_of


@operator_of("Resize", "Upsample")
def _resize(node: Node, values: Any, *given: Any) -> Any:
    if node.op == "Upsample" or node.opset < 11:
        scales, sizes = given[0] if given else torch.tensor(node.attributes["scales"]), None
    else:
        scales, sizes = (*given, None, None)[1:3]
    if node.get("keep_aspect_ratio_policy", "stretch") != "stretch":
        raise TypeError("Resize that keeps the aspect ratio is not converted")
    axes = [axis % node.ranks[0] for axis in node.get("axes") or range(node.ranks[0])]
    wanted = ints(sizes) if sizes is not None and len(sizes) else None
    factors = [float(scale) for scale in scales.tolist()] if wanted is None else None
    for i, axis in enumerate(axes):
        before = values.size(axis)
        after = wanted[i] if wanted is not None else math.floor(before * factors[i])  # type: ignore[index]
        factor = factors[i] if factors is not None else after / before
        if axis == 0 or (after == before and factor == 1):  # no runtime resizes the batch; files repeat its size
            continue
        weights = _weights(node, before, after, factor).to(values.device, values.dtype)
        values = (values.movedim(axis, -1) @ weights.T).movedim(-1, axis)
    return values


def _weights(node: Node, before: int, after: int, factor: float) -> Tensor:
    """How much each of `before` pixels counts in each of `after`, (after, before)."""
    at = _coordinates(node, before, after, factor)
    mode = node.get("mode", "nearest")
    pixels = torch.arange(before, dtype=torch.float64)
    if mode == "nearest":
        return torch.nn.functional.one_hot(_nearest(node, at).clamp(0, before - 1), before).double()
    reach = max(1.0, 1 / factor) if node.get("antialias", 0) else 1.0
    radius = (1 if mode == "linear" else 2) * reach
    places = torch.floor(at)[:, None] + torch.arange(-math.ceil(radius), math.ceil(radius) + 2, dtype=torch.float64)
    distance = (places - at[:, None]).abs() / reach
    shares = (1 - distance).clamp(min=0) if mode in ("linear", "bilinear") else _cubic(node, distance)
    if node.get("exclude_outside", 0):
        shares = torch.where((places < 0) | (places > before - 1), 0.0, shares)
    shares = shares / shares.sum(1, keepdim=True)
    hits = places.clamp(0, before - 1)[:, :, None] == pixels
    return (shares[:, :, None] * hits).sum(1)


def _coordinates(node: Node, before: int, after: int, factor: float) -> Tensor:
    old = node.op == "Upsample" or node.opset < 11
    how = "asymmetric" if old else node.get("coordinate_transformation_mode", "half_pixel")
    places = torch.arange(after, dtype=torch.float64)
    if how == "asymmetric":
        return places / factor
    if how == "align_corners":
        return places * (before - 1) / (after - 1) if after > 1 else torch.zeros(1, dtype=torch.float64)
    if how == "tf_half_pixel_for_nn":
        return (places + 0.5) / factor
    if how == "pytorch_half_pixel" and after == 1:
        return torch.zeros(1, dtype=torch.float64)
    if how == "half_pixel_symmetric":
        offset = before / 2 * (1 - after / (factor * before))
        return offset + (places + 0.5) / factor - 0.5
    if how in ("half_pixel", "pytorch_half_pixel"):
        return (places + 0.5) / factor - 0.5
    raise TypeError(f"Resize with coordinates {how} is not converted")


def _nearest(node: Node, at: Tensor) -> Tensor:
    default = "floor" if node.op == "Upsample" or node.opset < 11 else "round_prefer_floor"
    how = node.get("nearest_mode", default)
    rounded = {
        "floor": torch.floor(at),
        "ceil": torch.ceil(at),
        "round_prefer_floor": torch.ceil(at - 0.5),
        "round_prefer_ceil": torch.floor(at + 0.5),
    }
    return rounded[how].long()


def _cubic(node: Node, distance: Tensor) -> Tensor:
    a = node.get("cubic_coeff_a", -0.75)
    near = ((a + 2) * distance - (a + 3)) * distance**2 + 1
    far = ((a * distance - 5 * a) * distance + 8 * a) * distance - 4 * a
    return torch.where(distance <= 1, near, torch.where(distance < 2, far, 0.0))
