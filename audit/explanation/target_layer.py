"""The layers that a map is read from: the last spatial convolution, and attention whose weights can be read."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor, nn

from audit.core.errors import NotApplicable, unknown_name
from audit.core.note import Note, note
from audit.core.types import Images, PassCount
from audit.explanation.forward_trace import Operation, is_map, traced_forward
from audit.explanation.layer_part import layer_part
from audit.explanation.once_per_model import once_per_model
from audit.explanation.position_mixing import positions_after
from audit.explanation.positions import Order, axes_of_positions
from audit.models.under_test import ModelUnderTest

_PASSED_BY = 0.1
"""Share of the logits' change that may go past a layer whose map is read."""
_TRIES = 6


class SpatialLayer(NamedTuple):
    """A layer that gives a map.

    Attributes:
        name: Its name.
        module: The layer.
        order: How its output's axes are to be permuted to (N, K, h, w).
    """

    name: str
    module: nn.Module
    order: Order


def attention_layers(net: nn.Module) -> list[nn.Module]:
    """The layers whose attention weights can be read: `nn.MultiheadAttention`, and timm's.

    timm's are known by `fused_attn` and by the `attn_drop` that the weights go through when they are not fused.

    Args:
        net: Any net.
    """
    return [layer for layer in net.modules() if isinstance(layer, nn.MultiheadAttention) or _is_timm_attention(layer)]


def spatial_layer(model: ModelUnderTest, name: str | None = None) -> SpatialLayer:
    """The layer to read a class activation map from.

    By default the last convolution whose map is one of the image's positions and goes, unmixed and not past it, to the
    logits; where the last one is only a part of the channels, the first layer after it that has them all.

    Args:
        model: The model to explain; some forwards at the first time, counted as one.
        name: The layer to take, whatever follows it; None for the default.

    Raises:
        UsageError: The model has no layer of that name.
        NotApplicable: There is no layer to read, positions are mixed after it, so that its map is not what decides, or
            its positions are not the image's.
    """
    layers = dict(model.net.named_modules())
    if name is not None and name not in layers:
        raise unknown_name("layer", name, (n for n in layers if n))
    model.charge(PassCount(1, 0))
    return _found(model, name)


@once_per_model
def _found(model: ModelUnderTest, name: str | None) -> SpatialLayer:
    generator = torch.Generator(device="cpu").manual_seed(8)
    image = torch.rand(1, *model.input_shape, generator=generator, device="cpu").to(model.device)
    return _last(model, image) if name is None else _named(model, image, name)


def _named(model: ModelUnderTest, image: Images, name: str) -> SpatialLayer:
    if name not in _maps_in_order(model, image)[0]:
        raise NotApplicable(
            note("no_map", "Layer '{layer}' gives no (channels, height, width) map of at least 2x2.", layer=name)
        )
    return _placed(model, image, name)


def _last(model: ModelUnderTest, image: Images) -> SpatialLayer:
    maps, convolutions = _maps_in_order(model, image)
    spatial = [name for name in maps if name in convolutions and min(maps[name][2:]) >= 2]
    if not spatial and convolutions:  # called as a function, whose map another layer passes on
        spatial = list(maps)
    if not spatial:
        raise NotApplicable(
            note("no_convolution", "The model has no convolution with a spatial map of at least 2x2 to read.")
        )
    matters, last = False, spatial[-1]
    for name in _candidates(list(maps), spatial):
        after = positions_after(model, image, name)
        part = layer_part(model, image, name, after.sums)
        if not part.matters:
            continue
        if not matters:
            matters, last = True, name
            if after.mixes:
                raise NotApplicable(_mixed(after.mixes, name))
        if not after.mixes and part.passed_by <= _PASSED_BY:
            return _placed(model, image, name)
    if not matters:  # nothing moves the logits, so nothing can be said against it
        return _placed(model, image, last)
    raise NotApplicable(
        note(
            "only_a_part",
            "What decides does not all go through the last convolution ('{last}') or one layer near it, so no one map "
            "shows it; name a layer, or use a method that needs none.",
            last=last,
        )
    )


def _candidates(maps: list[str], spatial: list[str]) -> Iterator[str]:
    """The last convolution, the maps after it, and the convolutions before it, some of each."""
    yield spatial[-1]
    yield from maps[maps.index(spatial[-1]) + 1 :][:_TRIES]
    yield from spatial[-2 : -2 - _TRIES : -1]


def _placed(model: ModelUnderTest, image: Images, name: str) -> SpatialLayer:
    order = axes_of_positions(model, image, name)
    if order is None:
        raise NotApplicable(
            note(
                "positions_differ",
                "The positions of layer '{layer}' are not those of the image (a change of one part of the image moves "
                "others of them), so its map cannot be laid over it.",
                layer=name,
            )
        )
    return SpatialLayer(name, model.net.get_submodule(name), order)


def _mixed(mixes: str, last: str) -> Note:
    return note(
        "attention_follows",
        "'{attends}' mixes positions (attention, or a layer over tokens) and follows the last convolution ('{last}'), "
        "so its map is not what decides; use attention-rollout, or a method that needs no layer.",
        attends=mixes,
        last=last,
    )


def _is_timm_attention(layer: nn.Module) -> bool:
    return isinstance(getattr(layer, "fused_attn", None), bool) and isinstance(
        getattr(layer, "attn_drop", None), nn.Module
    )


def _maps_in_order(model: ModelUnderTest, image: Images) -> tuple[dict[str, tuple[int, ...]], set[str]]:
    """The shapes of the layers that give a map, in the order they last ran, and the innermost layers that convolve."""
    shapes: dict[str, tuple[int, ...]] = {}
    convolutions: set[str] = set()

    def see(operation: Operation) -> object:
        if "conv" in operation.name:
            convolutions.add(operation.layer)
        return operation.run()

    def record(name: str, output: Tensor) -> None:
        shapes.pop(name, None)
        if is_map(output):
            shapes[name] = tuple(output.shape)

    traced_forward(model, image, see, record)
    return shapes, convolutions


def rectified_layer(model: ModelUnderTest) -> SpatialLayer:
    """The layer to read concepts from: the first at or after `spatial_layer` whose map has no negative values.

    It must run once a forward, and all that decides must go through it unmixed. Where there is none, as where the
    rectifier is a function, it is `spatial_layer` itself.

    Args:
        model: The model; some forwards at the first time, counted as one.

    Raises:
        NotApplicable: As `spatial_layer`.
    """
    first = spatial_layer(model)
    return _rectified(model, first)


@once_per_model
def _rectified(model: ModelUnderTest, first: SpatialLayer) -> SpatialLayer:
    generator = torch.Generator(device="cpu").manual_seed(9)
    image = torch.rand(1, *model.input_shape, generator=generator, device="cpu").to(model.device)
    lowest: dict[str, float] = {}
    runs: dict[str, int] = {}

    def record(name: str, output: Tensor) -> None:
        runs[name] = runs.get(name, 0) + 1
        lowest.pop(name, None)
        if is_map(output):
            lowest[name] = float(output.min())

    traced_forward(model, image, on_output=record)
    names = list(lowest)
    for name in names[names.index(first.name) :][: _TRIES + 1] if first.name in names else ():
        if lowest[name] < 0 or runs[name] > 1:
            continue
        after = positions_after(model, image, name)
        part = layer_part(model, image, name, after.sums)
        if part.matters and not after.mixes and part.passed_by <= _PASSED_BY:
            order = axes_of_positions(model, image, name)
            if order is not None:
                return SpatialLayer(name, model.net.get_submodule(name), order)
    return first
