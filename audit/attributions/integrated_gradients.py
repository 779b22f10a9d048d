"""Integrated gradients, with as many steps as completeness takes."""

from __future__ import annotations

import torch
from torch import Tensor

from audit.attributions.explained import Explained, Explanation
from audit.attributions.library import borrowed, by_batches
from audit.models.under_test import ModelUnderTest
from audit.passes.masks import evaluate
from audit.passes.scores import Scored
from audit.registry import attribution
from audit.types import Images


@attribution(reference="arXiv:1703.01365", needs="gradients", signed=True, wraps="captum", baseline=0.0)
def integrated_gradients(
    model: ModelUnderTest,
    images: Images,
    explained: Explained,
    *,
    steps: int = 32,
    max_steps: int = 256,
    tolerance: float = 0.01,
) -> Explanation:
    """The gradient averaged along the line from the baseline, times the difference to it.

    Attributions sum to output(image) - output(baseline) (completeness). Images whose sum misses it by more than
    `tolerance` of that difference are done again with twice the `steps`, up to `max_steps`. Quality:
    `completeness_residual` (in units of the output), `completeness_error` (relative), `steps`. Units: output.
    """
    gap = _outputs(model, images, explained) - _outputs(model, explained.baseline, explained)
    attributions = torch.zeros_like(images)
    used = torch.zeros(len(images), device=images.device)
    open_ = torch.arange(len(images), device=images.device)
    residual = gap.clone()
    while len(open_):
        attributions[open_] = _integrate(model, images[open_], explained.select(open_), steps)
        used[open_] = steps
        residual = attributions.flatten(1).sum(1) - gap
        open_ = (_relative(residual, gap) > tolerance).nonzero().flatten()
        if steps * 2 > max_steps:
            break
        steps *= 2
    quality = {"completeness_residual": residual.abs(), "completeness_error": _relative(residual, gap), "steps": used}
    return Explanation(attributions, quality)


def _integrate(model: ModelUnderTest, images: Images, explained: Explained, steps: int) -> Images:
    from captum.attr import IntegratedGradients

    method = IntegratedGradients(Scored(model, explained.output))

    def one(leaf: Images, part: slice) -> Tensor:
        return method.attribute(  # type: ignore[no-any-return]
            leaf,
            baselines=explained.baseline[part],
            target=explained.targets[part],
            n_steps=steps,
            internal_batch_size=max(len(leaf), model.layout.batch_size),
        ).to(leaf.dtype)

    with borrowed(model):
        return by_batches(model, images, one)


def _outputs(model: ModelUnderTest, images: Images, explained: Explained) -> Tensor:
    return evaluate(
        model, len(images), lambda part: images[part], lambda logits, part: explained.part(part).score(logits)
    )


def _relative(residual: Tensor, gap: Tensor) -> Tensor:
    return residual.abs() / gap.abs().clamp(min=1e-6)
