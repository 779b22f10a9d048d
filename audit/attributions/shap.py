"""SHAP on image segments: exact where that is affordable, sampled with error bars or partitioned above."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import torch
from torch import Tensor

from audit.core.registry import attribution
from audit.core.types import Images, PassCount
from audit.explanation.shap_package import kernel_by_package, partition_by_package
from audit.explanation.shapley_exact import MAX_AUTO_SEGMENTS, MAX_EXACT_SEGMENTS, exact_shapley
from audit.explanation.shapley_kernel import kernel_shapley
from audit.explanation.spec import Attribution, ExplanationSpec
from audit.masking.segmentation import max_segments, segments_to_pixels, target_count
from audit.models.under_test import ModelUnderTest


def _passes(settings: Mapping[str, Any], shape: tuple[int, ...]) -> PassCount:
    """Masks of an image that gives the usual number of segments, and the two ends.

    An image too plain for that number may be enumerated where others are sampled, which costs more.
    """
    algorithm, samples = settings["algorithm"], settings["samples"]
    most = max_segments(*shape[1:])
    if algorithm == "exact":
        return PassCount(2 ** min(MAX_EXACT_SEGMENTS, most), 0)
    if algorithm == "auto" and target_count(*shape[1:])[0] <= MAX_AUTO_SEGMENTS:
        samples = max(samples, 2 ** min(MAX_AUTO_SEGMENTS, most))
    return PassCount(samples + 2, 0)


@attribution(
    reference="arXiv:1705.07874",
    needs="scores",
    signed=True,
    segment_based=True,
    wraps="shap",
    baseline="segment-mean",
    passes=_passes,
    quality_units={"efficiency_residual": ("output", "lower"), "standard_error": ("output", "lower")},
    version="3",
)
def shap(
    model: ModelUnderTest,
    images: Images,
    spec: ExplanationSpec,
    *,
    algorithm: Literal["auto", "exact", "kernel", "partition"] = "auto",
    samples: int = 1024,
    engine: Literal["audit", "package"] = "audit",
) -> Attribution:
    """Shapley values of the segments: each one's fair share of output(image) - output(baseline).

    The map is (N, 1, H, W), in units of the output. Quality: `efficiency_residual` (what the values miss of the
    difference), `standard_error` (mean over segments; 0 where exact).

    Args:
        model: The model to explain.
        images: Float32 (N, C, H, W) in [0, 1].
        spec: What to explain, with segments.
        algorithm: `exact` enumerates all 2^n masks; `kernel` is Kernel SHAP (theorem 2 of arXiv:1705.07874) with masks
            sampled as in arXiv:2410.01917 and third-order interactions of neighbours taken out of the noise;
            `partition` is shap's own, Owen values over a tree of neighbouring segments; `auto` is exact up to 12
            segments and kernel above.
        samples: Masks an image, where sampled.
        engine: `package` has shap's own `KernelExplainer` do what `exact` and `kernel` ask for, on the same segments,
            baseline and output; it tells no standard errors where it samples.
    """
    queue = spec.masks(model, images)
    values: list[Tensor] = []
    errors: list[Tensor] = []
    residuals: list[float] = []
    for row, size in enumerate(queue.sizes):
        algorithm_used = ("exact" if size <= MAX_AUTO_SEGMENTS else "kernel") if algorithm == "auto" else algorithm
        if algorithm_used == "partition":
            shapley = partition_by_package(queue, row, samples)
        elif engine == "package":
            seed = int(spec.generators.keys[row]) % 2**32
            shapley = kernel_by_package(queue, row, seed=seed, samples=samples, exact=algorithm_used == "exact")
        elif algorithm_used == "exact":
            shapley = exact_shapley(queue, row)
        else:
            shapley = kernel_shapley(queue, row, spec.generators, samples)
        values.append(shapley.values)
        errors.append(shapley.standard_errors)
        residuals.append(shapley.efficiency_residual)
    maps = segments_to_pixels(values, queue.segments)
    quality = {"efficiency_residual": torch.tensor(residuals, device="cpu")}
    facts = {"algorithm": algorithm, "engine": engine} if engine == "package" else {"algorithm": algorithm}
    if any(bool(error.isnan().any()) for error in errors):
        return Attribution(maps, quality, facts)
    quality["standard_error"] = torch.stack([error.mean() for error in errors])
    return Attribution(maps, quality, facts, {"standard_error": segments_to_pixels(errors, queue.segments)})
