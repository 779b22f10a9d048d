"""Maps that are nothing but rounding, emptied: a flat picture, a constant or a saturated net leave nothing to show."""

from __future__ import annotations

import torch
from torch import Tensor

from audit.core.precise import precise
from audit.core.registry import Method
from audit.core.types import Attributions, Images
from audit.explanation.captum_guard import uncounted
from audit.explanation.spec import ExplanationSpec
from audit.masking.outputs import scores
from audit.models.under_test import ModelUnderTest

_ROUNDINGS = 32 * torch.finfo(torch.float32).eps
"""Share of the largest output that a deep net's outputs differ by when only the order of its sums changes."""
_LARGEST_OUTPUT = 1e4
"""Maps above the floor of outputs as large as this are never asked about."""
_NEAR = 1000
"""Up to so many times the floor, a gradient is held against what the outputs do."""
_NOISE = 0.1
"""Standard deviation of the pixel noise under which a constant net does not move."""


def without_rounding(
    method: Method, model: ModelUnderTest, images: Images, spec: ExplanationSpec, maps: Attributions
) -> Attributions:
    """The maps, all zero where they hold nothing above the rounding of the model's outputs.

    A method by scores is held to its largest value, a difference of outputs; a method by gradients to the sum of its
    map, which bounds what all pixels together could do. Nothing else of a map is changed.

    Args:
        method: A registered attribution; one whose `unit` is not the output's is left alone.
        model: The model that was explained; a forward or six of an image whose map is very small, not counted.
        images: Float32 (N, C, H, W) in [0, 1].
        spec: What was explained of them.
        maps: Float (N, C or 1, H, W).
    """
    if method.facts.get("unit", "output") != "output":
        return maps
    by_scores = method.facts["needs"] == "scores"
    flat = precise(maps.detach()).flatten(1).abs()
    size = flat.amax(1) if by_scores else flat.sum(1)
    near = 1 if by_scores else _NEAR
    rows = torch.nonzero((size > 0) & (size <= near * _ROUNDINGS * _LARGEST_OUTPUT)).flatten()
    if not len(rows):
        return maps
    floor = _ROUNDINGS * precise(_outputs(model, images[rows], spec).abs().amax(1))
    empty = size[rows] <= floor
    if not by_scores:
        unsure = ~empty & (size[rows] <= near * floor)
        if bool(unsure.any()):
            empty[unsure] = ~_moves(model, images[rows[unsure]], spec, floor[unsure])
    if not bool(empty.any()):
        return maps
    emptied = maps.clone()
    emptied[rows[empty]] = 0
    return emptied


def _moves(model: ModelUnderTest, images: Images, spec: ExplanationSpec, floor: Tensor) -> Tensor:
    """Whether any output of each image rises above the floor under pixel noise, bool (M,)."""
    generator = torch.Generator(device="cpu").manual_seed(3)
    noise = _NOISE * torch.randn(2, *images.shape[1:], generator=generator, device="cpu").to(images)
    before = _outputs(model, images, spec)
    moved = [precise((_outputs(model, images + change, spec) - before).abs().amax(1)) for change in noise]
    return torch.stack(moved).amax(0) > floor


def _outputs(model: ModelUnderTest, images: Images, spec: ExplanationSpec) -> Tensor:
    with uncounted(model):
        return scores(model.logits(images), spec.output)
