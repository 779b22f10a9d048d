"""SHAP on image segments: exact where that is affordable, sampled with error bars or partitioned above."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import torch

from audit.core.registry import attribution
from audit.core.types import Images, PassCount
from audit.explanation.precision import (
    PRECISION_UNITS,
    MapEstimate,
    MapPrecision,
    expected_masks,
    looks_at,
    quality_of_maps,
    sample_until_precise,
)
from audit.explanation.shap_package import kernel_by_package, partition_by_package
from audit.explanation.shapley_exact import (
    MAX_AUTO_SEGMENTS,
    MAX_EXACT_SEGMENTS,
    ShapleyValues,
    exact_shapley,
    is_enumerated,
)
from audit.explanation.shapley_kernel import kernel_shapley
from audit.explanation.spec import Attribution, ExplanationSpec
from audit.masking.queue import MaskQueue
from audit.masking.segmentation import max_segments, segments_to_pixels, target_count
from audit.models.under_test import ModelUnderTest

_FIRST_LOOK = 4
"""Masks a segment at the first look, where a precision is asked for: what control variates need at least."""
_MASKS = 0.6
"""For `expected_masks`, measured on EfficientNet-Lite0 at 224 pixels."""


def _passes(settings: Mapping[str, Any], shape: tuple[int, ...]) -> PassCount:
    """Every mask, or those sampled and the two ends; an image of any size may be plain enough for the first."""
    algorithm, samples = settings["algorithm"], settings["samples"]
    most = max_segments(*shape[1:])
    if algorithm == "exact":
        return PassCount(2 ** min(MAX_EXACT_SEGMENTS, most), 0)
    if algorithm == "auto":
        samples = max(samples, 2 ** min(MAX_AUTO_SEGMENTS, most))
    return PassCount(samples + 2, 0)


def _expected(settings: Mapping[str, Any], shape: tuple[int, ...]) -> PassCount:
    """Masks of an image that gives the usual number of segments, and the two ends."""
    algorithm, segments = settings["algorithm"], target_count(*shape[1:])[0]
    if algorithm == "exact" or is_enumerated(settings, segments):
        return PassCount(2 ** min(MAX_EXACT_SEGMENTS, segments), 0)
    return PassCount(min(expected_masks(settings, segments, _MASKS) + 2, 2**segments), 0)


@attribution(
    reference="arXiv:1705.07874",
    needs="scores",
    signed=True,
    segment_based=True,
    wraps="shap",
    baseline="segment-mean",
    passes=_passes,
    expected=_expected,
    quality_units={
        "efficiency_residual": ("output", "lower"),
        "standard_error": ("output", "lower"),
        **PRECISION_UNITS,
    },
    version="4",
)
def shap(
    model: ModelUnderTest,
    images: Images,
    spec: ExplanationSpec,
    *,
    algorithm: Literal["auto", "exact", "kernel", "partition"] = "auto",
    samples: int = 1024,
    precision: MapPrecision | None = None,
    engine: Literal["audit", "package"] = "audit",
) -> Attribution:
    """Shapley values of the segments: each one's fair share of output(image) - output(baseline).

    The map is (N, 1, H, W), in units of the output; `standard_error` is a map of it. Quality: `efficiency_residual`
    (what the values miss of the difference), `standard_error` (mean over segments; 0 where exact), and see
    `audit.explanation.precision.PRECISION_UNITS`; `partition`, which draws nothing, leaves out all but the first.

    Args:
        model: The model to explain.
        images: Float32 (N, C, H, W) in [0, 1].
        spec: What to explain, with segments.
        algorithm: `exact` enumerates all 2^n masks; `kernel` is Kernel SHAP (theorem 2 of arXiv:1705.07874) with masks
            sampled as in arXiv:2410.01917 and third-order interactions of neighbours taken out of the noise;
            `partition` is shap's own, Owen values over a tree of neighbouring segments; `auto` is exact up to 12
            segments and kernel above, and with a precision kernel wherever that may take fewer masks.
        samples: Masks an image, where sampled; with a precision, at most, and all that there are of up to 12 segments.
        precision: Stop `kernel` once the map is off by at most this share of its size, with 95% probability; None for
            all samples.
        engine: `package` has shap's own `KernelExplainer` do what `exact` and `kernel` ask for, on the same segments,
            baseline and output; it tells no standard errors where it samples, and knows no precision.
    """
    queue = spec.masks(model, images)
    if engine == "package" or algorithm == "partition":
        return _by_package(queue, spec, algorithm, samples)
    asked = {"algorithm": algorithm, "precision": precision}
    enumerated = {row for row, size in enumerate(queue.sizes) if algorithm == "exact" or is_enumerated(asked, size)}
    answers: dict[int, ShapleyValues] = {}

    def estimates(counts: Mapping[int, int]) -> Mapping[int, MapEstimate]:
        answers.update({row: exact_shapley(queue, row) for row in counts if row in enumerated})
        sampled = {row: count for row, count in counts.items() if row not in enumerated}
        answers.update(kernel_shapley(queue, spec.generators, sampled) if sampled else {})
        return {row: answers[row].estimate for row in counts}

    looks = [
        (2**size,) if row in enumerated else _looks(size, algorithm, samples, precision, spec.count_of(row))
        for row, size in enumerate(queue.sizes)
    ]
    judged = sample_until_precise(looks, precision, estimates)
    errors = [one.standard_errors for one in judged]
    residuals = [answers[row].efficiency_residual for row in range(len(judged))]
    quality = {
        "efficiency_residual": torch.tensor(residuals, device="cpu"),
        "standard_error": torch.stack([error.mean() for error in errors]),
    }
    return Attribution(
        segments_to_pixels([one.values for one in judged], queue.segments),
        quality | quality_of_maps(judged, precision),
        {"algorithm": algorithm},
        {"standard_error": segments_to_pixels(errors, queue.segments)},
    )


def _looks(size: int, algorithm: str, samples: int, precision: float | None, exactly: int | None) -> tuple[int, ...]:
    """After how many masks the values of so many segments are looked at; in the end, of few segments, after all."""
    most = 2**size if algorithm == "auto" and size <= MAX_AUTO_SEGMENTS else samples
    return looks_at(_FIRST_LOOK * size, most, precision, exactly)


def _by_package(queue: MaskQueue, spec: ExplanationSpec, algorithm: str, samples: int) -> Attribution:
    answers: list[ShapleyValues] = []
    for row, size in enumerate(queue.sizes):
        if algorithm == "partition":
            answers.append(partition_by_package(queue, row, samples))
        else:
            seed, exact = (
                int(spec.generators.keys[row]) % 2**32,
                algorithm == "exact" or is_enumerated({"algorithm": algorithm}, size),
            )
            answers.append(kernel_by_package(queue, row, seed=seed, samples=samples, exact=exact))
    residuals = torch.tensor([answer.efficiency_residual for answer in answers], device="cpu")
    maps = segments_to_pixels([answer.estimate.values for answer in answers], queue.segments)
    facts = {"algorithm": algorithm} if algorithm == "partition" else {"algorithm": algorithm, "engine": "package"}
    return Attribution(maps, {"efficiency_residual": residuals}, facts)
