"""Whether autograd sees the whole forward: where the gradient is cut, and whether what is left is still the slope."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

from audit.core.note import NO_NOTE, Note, note
from audit.core.types import Images
from audit.explanation.captum_guard import eager, restored, uncounted
from audit.explanation.once_per_model import once_per_model
from audit.models.forward_watch import RunningLayers, running_layers
from audit.models.under_test import ModelUnderTest

_STEP = 0.02
"""How far an image is moved to measure the slope, in pixel values: several of the 256 levels."""
_DIRECTIONS = 8
_WRONG = 0.3
"""Share of the measured slopes that the gradient may miss: kinks within the step cost some, a missing path most."""


@once_per_model
def missing_gradient(model: ModelUnderTest) -> Note:
    """Why the gradient is not the slope, naming the layer at which it is cut; empty where it is.

    A cut alone is no fault: a forward may detach what its answer does not depend on, or what a straight-through
    estimate stands for. It is where the outputs also move otherwise than the gradient says.

    Args:
        model: The model; asked once, a few passes, not counted.
    """
    generator = torch.Generator(device="cpu").manual_seed(2)
    images = torch.rand(2, *model.input_shape, generator=generator, device="cpu").to(model.device)
    with uncounted(model):
        try:
            cut = _cut(model, images)
        except RuntimeError:  # NumPy refuses tensors that require gradients: the method will say that there are none.
            return NO_NOTE
        if cut is None or _is_slope(model, images, generator):
            return NO_NOTE
    return note(
        "gradient_cut",
        "Part of the forward ('{layer}') runs without autograd (no_grad, detach or .data), so the gradient is not the "
        "slope of the output; methods that need only scores, such as lime, shap or rise, apply.",
        layer=cut,
    )


def _cut(model: ModelUnderTest, images: Images) -> str | None:
    """The innermost layer that runs where the first gradient is lost; None where none is, or all is."""
    with restored(model), eager(model), torch.enable_grad(), running_layers(model.net) as running:
        watch = _GradientWatch(running)
        with watch:
            logits = model.module(images.detach().clone().requires_grad_(True))
    return watch.cut if logits.requires_grad else None


class _GradientWatch(TorchFunctionMode):
    """Notes the first call whose input has a gradient and whose output, though float, has none."""

    def __init__(self, running: RunningLayers) -> None:
        super().__init__()
        self.running = running
        self.cut: str | None = None

    def __torch_function__(
        self, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        result = function(*args, **(kwargs or {}))
        name = getattr(function, "__name__", "a call")
        makes_new = name.endswith("_like") or name.startswith("new_")
        if (
            self.cut is None
            and not makes_new
            and isinstance(result, Tensor)
            and result.is_floating_point()
            and not result.requires_grad
        ):
            given = [leaf for leaf in tree_leaves((args, dict(kwargs or {}))) if isinstance(leaf, Tensor)]
            if any(tensor.requires_grad for tensor in given) and result.numel() > 1:
                self.cut = self.running[-1][0] if self.running else name
        return result


def _is_slope(model: ModelUnderTest, images: Images, generator: torch.Generator) -> bool:
    """Whether outputs move along random directions as the gradient says, on a random mix of the logits."""
    logits = model.logits(images)
    mix = torch.randn(logits.shape, generator=generator, device="cpu").to(logits)
    gradient = model.loss_gradient(images, mix, lambda outputs, weights: (outputs * weights).sum(1)).gradient
    said, measured = [], []
    for _ in range(_DIRECTIONS):
        direction = torch.randn(images.shape, generator=generator, device="cpu").sign().to(images)
        moved = model.logits(images + _STEP * direction) - model.logits(images - _STEP * direction)
        measured.append((moved * mix).sum(1) / (2 * _STEP))
        said.append((gradient * direction).flatten(1).sum(1))
    slopes, gap = torch.stack(measured), torch.stack(said) - torch.stack(measured)
    return float(gap.norm()) <= _WRONG * float(slopes.norm())
