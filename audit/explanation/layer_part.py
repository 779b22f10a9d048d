"""How much of what decides goes through a layer: whether the logits depend on its map, and on what passes it by."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from audit.core.types import Images
from audit.explanation.forward_trace import Operation, float_tensors, noise_like, traced_forward
from audit.models.under_test import ModelUnderTest

_LEAST = 1e-7
"""Change of the logits, as a share of the largest, below which they do not depend on something."""


@dataclass(frozen=True)
class LayerPart:
    """What the logits owe to a layer.

    Attributes:
        matters: Whether they change with its map.
        passed_by: The share of their change with the image that is left when its map stays as it was.
    """

    matters: bool
    passed_by: float


def layer_part(model: ModelUnderTest, image: Images, layer: str, sums: dict[int, Tensor]) -> LayerPart:
    """Change a layer's map, and change the image while the map stays.

    Args:
        model: The model; four forwards, not counted.
        image: Float32 (1, C, H, W) in [0, 1].
        layer: The name of the layer.
        sums: By number of the operation, a result to hold too: where the map is added to what came another way.
    """
    generator = torch.Generator(device="cpu").manual_seed(7)
    other = torch.rand(image.shape, generator=generator, device="cpu").to(image)
    held: list[Tensor] = []

    def hold(operation: Operation) -> Any:
        result = operation.run()
        if operation.number in sums:
            float_tensors(result)[0].copy_(sums[operation.number])
        return result

    def at(change: Any) -> Any:
        return lambda name, output: change(output) if name == layer else None

    def remember(output: Tensor) -> None:
        held[:] = [output.clone()]

    clean = traced_forward(model, image, on_output=at(remember))
    noisy = traced_forward(model, image, on_output=at(lambda output: output + noise_like(output, generator)))
    moved = traced_forward(model, other)
    stayed = traced_forward(model, other, hold, at(lambda output: held[0].clone()))
    least = _LEAST * float(clean.abs().max())
    whole, rest = (float((logits - clean).abs().max()) for logits in (moved, stayed))
    return LayerPart(float((noisy - clean).abs().max()) > least, rest / whole if whole > least else 0.0)
