"""SHAP on image segments: exact where that is affordable, sampled with error bars or partitioned above."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from audit.core.registry import attribution
from audit.core.types import Images
from audit.explanation.shapley_exact import MOST_SEGMENTS, exact_shapley
from audit.explanation.shapley_kernel import kernel_shapley
from audit.explanation.shapley_partition import partition_shapley
from audit.explanation.spec import Attribution, ExplanationSpec
from audit.masking.segmentation import segments_to_pixels
from audit.models.under_test import ModelUnderTest


@attribution(
    reference="arXiv:1705.07874",
    needs="scores",
    signed=True,
    segment_based=True,
    wraps="shap",
    baseline="segment-mean",
    version="3",
)
def shap(
    model: ModelUnderTest,
    images: Images,
    explained: ExplanationSpec,
    *,
    algorithm: Literal["auto", "exact", "kernel", "partition"] = "auto",
    samples: int = 1024,
) -> Attribution:
    """Shapley values of the segments: each one's fair share of output(image) - output(baseline).

    `auto` enumerates images of up to 12 segments (2^n masks, exact) and samples the kernel above (arXiv:2410.01917),
    third-order interactions of neighbours taken out of the noise; `partition` is shap's own, Owen values over a tree
    of neighbouring segments. `samples` masks an image, where sampled.
    Quality: `efficiency_residual` (what the values miss of the difference), `standard_error` (mean over segments; 0
    where exact). Units: output.
    """
    queue = explained.masks(model, images)
    values: list[Tensor] = []
    errors: list[Tensor] = []
    residuals: list[float] = []
    for row, size in enumerate(queue.sizes):
        chosen = ("exact" if size <= MOST_SEGMENTS else "kernel") if algorithm == "auto" else algorithm
        if chosen == "exact":
            found = exact_shapley(queue, row)
        elif chosen == "kernel":
            found = kernel_shapley(queue, row, explained.generators, samples)
        else:
            found = partition_shapley(queue, row, samples)
        values.append(found.values)
        errors.append(found.standard_errors)
        residuals.append(found.efficiency_residual)
    quality = {
        "efficiency_residual": torch.tensor(residuals, device="cpu"),
        "standard_error": torch.stack([error.mean() for error in errors]),
    }
    return Attribution(
        segments_to_pixels(values, queue.segments),
        quality,
        {"algorithm": algorithm},
        {"standard_error": segments_to_pixels(errors, queue.segments)},
    )
