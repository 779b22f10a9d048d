"""Which layer a class activation map is read from."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from audit.core.errors import NotApplicable, unknown_name
from audit.core.types import Images
from audit.explanation.attention_weights import attention_layers
from audit.explanation.captum_guard import restored
from audit.models.under_test import ModelUnderTest

_SPATIAL = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose2d)
_ATTENDING = ("SelfAttention", "MultiheadAttention", "MultiHeadAttention", "WindowAttention")
"""How the classes of attention among tokens end in transformers and torchvision, whose weights cannot be read."""


def spatial_layer(model: ModelUnderTest, image: Images, name: str | None = None) -> tuple[str, nn.Module]:
    """The layer called `name`, or the last convolution that runs and gives a map of at least 2x2.

    One forward of `image` (1, C, H, W). Raises NotApplicable where there is none, or where attention follows it
    (its map then says nothing of what the model looked at); UsageError for an unknown name.
    """
    layers = dict(model.net.named_modules())
    if name is not None and name not in layers:
        raise unknown_name("layer", name, (n for n in layers if n))
    shapes, attends = _shapes_in_order(model, image, layers)
    if name is not None:
        if not _is_map(shapes.get(name)):
            raise NotApplicable(f"Layer {name!r} gives no (channels, height, width) map of at least 2x2.")
        return name, layers[name]
    found = [n for n in shapes if isinstance(layers[n], _SPATIAL) and _is_map(shapes[n])]
    if not found:
        raise NotApplicable("The model has no convolution with a spatial map of at least 2x2 to read.")
    if attends and list(shapes).index(attends) > list(shapes).index(found[-1]):
        raise NotApplicable(
            f"Attention ({attends!r}) follows the last convolution ({found[-1]!r}), so its map is not what decides; "
            "use attention-rollout, or a method that needs no layer."
        )
    return found[-1], layers[found[-1]]


def _shapes_in_order(
    model: ModelUnderTest, image: Images, layers: dict[str, nn.Module]
) -> tuple[dict[str, tuple[int, ...]], str]:
    """The output shape of each layer in the order they last ran, and the last attention layer ("" for none)."""
    shapes: dict[str, tuple[int, ...]] = {}
    attends = ""
    readable = attention_layers(model.net)

    def note(name: str, layer: nn.Module, output: object) -> None:
        nonlocal attends
        shapes.pop(name, None)
        shapes[name] = tuple(output.shape) if isinstance(output, Tensor) else ()
        if type(layer).__name__.endswith(_ATTENDING) or any(layer is one for one in readable):
            attends = name

    with restored(model), torch.no_grad():
        for name, layer in layers.items():
            layer.register_forward_hook(lambda layer, _, output, name=name: note(name, layer, output))
        model.module(image)
    return shapes, attends


def _is_map(shape: tuple[int, ...] | None) -> bool:
    return shape is not None and len(shape) == 4 and min(shape[2:]) >= 2
