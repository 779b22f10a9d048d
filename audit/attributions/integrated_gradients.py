"""Integrated gradients, with as many steps as completeness takes."""

from __future__ import annotations

import numpy as np
import torch

from audit.core.registry import attribution
from audit.core.types import Images
from audit.explanation.path_integral import integrate_gradients
from audit.explanation.spec import Attribution, ExplanationSpec
from audit.models.under_test import ModelUnderTest


@attribution(reference="arXiv:1703.01365", needs="gradients", signed=True, baseline=0.0, version="2")
def integrated_gradients(
    model: ModelUnderTest,
    images: Images,
    explained: ExplanationSpec,
    *,
    steps: int = 32,
    max_steps: int = 256,
    tolerance: float = 0.01,
) -> Attribution:
    """The gradient averaged along the line from the baseline, times the difference to it.

    Attributions sum to output(image) - output(baseline) (completeness). The line begins as `steps` equal stretches;
    where the gradients at a stretch's ends do not account for the output's change over it, it is halved, worst first,
    until the whole misses at most `tolerance` of the difference and the stretches one by one at most ten times that,
    or until there are `max_steps`. Quality: `completeness_residual` (in units of the output), `completeness_error`
    (relative), `path_error` (the misses of all stretches, signs aside, relative), `steps`, `closed` (1 where it did
    within `max_steps`). Units: output.
    """
    means, lines = integrate_gradients(model, images, explained, steps=steps, most=max_steps, tolerance=tolerance)
    attributions = means * (images - explained.baseline)
    gap = torch.tensor([line.gap for line in lines], device=images.device, dtype=torch.float64)
    scale = gap.abs().clamp(min=1e-6)
    residual = (attributions.double().flatten(1).sum(1) - gap).abs()
    missed = torch.tensor([float(np.abs(line.misses).sum()) for line in lines], device=images.device).double()
    quality = {
        "completeness_residual": residual,
        "completeness_error": residual / scale,
        "path_error": missed / scale,
        "steps": torch.tensor([float(line.stretches) for line in lines], device=images.device),
        "closed": torch.tensor([float(line.closes(tolerance)) for line in lines], device=images.device),
    }
    return Attribution(attributions, {name: value.float() for name, value in quality.items()})
