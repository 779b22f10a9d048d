"""The layers that a map is read from: the last spatial convolution, and attention whose weights can be read."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from audit.core.errors import NotApplicable, unknown_name
from audit.core.note import note
from audit.core.types import Images
from audit.explanation.captum_guard import restored
from audit.models.under_test import ModelUnderTest

_SPATIAL = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose2d)
_ATTENTION_SUFFIXES = ("SelfAttention", "MultiheadAttention", "MultiHeadAttention", "WindowAttention")
"""Class names of attention in transformers and torchvision, whose weights cannot be read, end so."""


def attention_layers(net: nn.Module) -> list[nn.Module]:
    """The layers whose attention weights can be read: `nn.MultiheadAttention`, and timm's.

    timm's are known by `fused_attn` and by the `attn_drop` that the weights go through when they are not fused.

    Args:
        net: Any net.
    """
    return [layer for layer in net.modules() if isinstance(layer, nn.MultiheadAttention) or _is_timm_attention(layer)]


def spatial_layer(model: ModelUnderTest, image: Images, name: str | None = None) -> tuple[str, nn.Module]:
    """The name and the module of the layer to read a class activation map from.

    Args:
        model: The model to explain; one forward.
        image: Float32 (1, C, H, W).
        name: The layer to take; None for the last convolution that runs and gives a map of at least 2x2.

    Raises:
        UsageError: The model has no layer of that name.
        NotApplicable: There is no layer to read, or attention follows it, so that its map is not what decides.
    """
    layers = dict(model.net.named_modules())
    if name is not None and name not in layers:
        raise unknown_name("layer", name, (n for n in layers if n))
    shapes, last_attention = _shapes_in_order(model, image, layers)
    if name is not None:
        if not _is_map(shapes.get(name)):
            raise NotApplicable(
                note("no_map", "Layer '{layer}' gives no (channels, height, width) map of at least 2x2.", layer=name)
            )
        return name, layers[name]
    spatial = [n for n in shapes if isinstance(layers[n], _SPATIAL) and _is_map(shapes[n])]
    if not spatial:
        raise NotApplicable(
            note("no_convolution", "The model has no convolution with a spatial map of at least 2x2 to read.")
        )
    if last_attention and list(shapes).index(last_attention) > list(shapes).index(spatial[-1]):
        raise NotApplicable(
            note(
                "attention_follows",
                "Attention ('{attends}') follows the last convolution ('{last}'), so its map is not what decides; use "
                "attention-rollout, or a method that needs no layer.",
                attends=last_attention,
                last=spatial[-1],
            )
        )
    return spatial[-1], layers[spatial[-1]]


def _is_timm_attention(layer: nn.Module) -> bool:
    return isinstance(getattr(layer, "fused_attn", None), bool) and isinstance(
        getattr(layer, "attn_drop", None), nn.Module
    )


def _shapes_in_order(
    model: ModelUnderTest, image: Images, layers: dict[str, nn.Module]
) -> tuple[dict[str, tuple[int, ...]], str]:
    """The output shape of each layer in the order they last ran, and the last attention layer ("" for none)."""
    shapes: dict[str, tuple[int, ...]] = {}
    last_attention = ""
    readable = attention_layers(model.net)

    def record(name: str, layer: nn.Module, output: object) -> None:
        nonlocal last_attention
        shapes.pop(name, None)
        shapes[name] = tuple(output.shape) if isinstance(output, Tensor) else ()
        if type(layer).__name__.endswith(_ATTENTION_SUFFIXES) or any(layer is attention for attention in readable):
            last_attention = name

    with restored(model), torch.no_grad():
        for name, layer in layers.items():
            layer.register_forward_hook(lambda layer, _, output, name=name: record(name, layer, output))
        model.module(image)
    return shapes, last_attention


def _is_map(shape: tuple[int, ...] | None) -> bool:
    return shape is not None and len(shape) == 4 and min(shape[2:]) >= 2
