"""SHAP on image segments: exact where that is affordable, sampled with error bars or partitioned above."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from audit.core.registry import attribution
from audit.core.types import Images, PassCount
from audit.explanation.precision import (
    PRECISION_UNITS,
    MapEstimate,
    MapPrecision,
    looks_at,
    quality_of_maps,
    sample_until_precise,
)
from audit.explanation.shapley_exact import (
    MAX_AUTO_SEGMENTS,
    MAX_EXACT_SEGMENTS,
    ShapleyValues,
    exact_shapley,
    masked_outputs,
)
from audit.explanation.shapley_kernel import kernel_shapley
from audit.explanation.spec import Attribution, ExplanationSpec
from audit.masking.queue import MaskQueue
from audit.masking.segmentation import max_segments, segments_to_pixels, target_count
from audit.models.under_test import ModelUnderTest

_FIRST_LOOK = 4
"""Masks a segment at the first look, where a precision is asked for: what control variates need at least."""


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
    quality_units={
        "efficiency_residual": ("output", "lower"),
        "standard_error": ("output", "lower"),
        **PRECISION_UNITS,
    },
    version="3",
)
def shap(
    model: ModelUnderTest,
    images: Images,
    spec: ExplanationSpec,
    *,
    algorithm: Literal["auto", "exact", "kernel", "partition"] = "auto",
    samples: int = 1024,
    precision: MapPrecision | None = None,
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
            segments and kernel above.
        samples: Masks an image, where sampled; with a precision, at most.
        precision: Stop `kernel` once the map is off by at most this share of its size, with 95% probability; None for
            all samples.
    """
    queue = spec.masks(model, images)
    if algorithm == "partition":
        return _partitioned(queue, samples)
    enumerated = {row for row, size in enumerate(queue.sizes) if algorithm == "exact" or _is_small(size, algorithm)}
    answers: dict[int, ShapleyValues] = {}

    def estimates(counts: Mapping[int, int]) -> Mapping[int, MapEstimate]:
        answers.update({row: exact_shapley(queue, row) for row in counts if row in enumerated})
        sampled = {row: count for row, count in counts.items() if row not in enumerated}
        answers.update(kernel_shapley(queue, spec.generators, sampled) if sampled else {})
        return {row: answers[row].estimate for row in counts}

    looks = [
        (2**size,) if row in enumerated else looks_at(_FIRST_LOOK * size, samples, precision, spec.count_of(row))
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


def _is_small(size: int, algorithm: str) -> bool:
    return algorithm == "auto" and size <= MAX_AUTO_SEGMENTS


def _partitioned(queue: MaskQueue, samples: int) -> Attribution:
    answers = [partition_shapley(queue, row, samples) for row in range(len(queue.sizes))]
    residuals = torch.tensor([answer.efficiency_residual for answer in answers], device="cpu")
    maps = segments_to_pixels([answer.estimate.values for answer in answers], queue.segments)
    return Attribution(maps, {"efficiency_residual": residuals}, {"algorithm": "partition"})


def partition_shapley(queue: MaskQueue, row: int, samples: int) -> ShapleyValues:
    """Owen values of one image's segments over a tree that joins neighbours first, by shap's partition explainer.

    Args:
        queue: Evaluates masks of N images.
        row: The image.
        samples: Masks to evaluate, at most about.
    """
    library = _shap_library()
    size = queue.sizes[row]

    def outputs(masks: NDArray[np.float64]) -> NDArray[np.float64]:
        visible = torch.from_numpy(np.asarray(masks) > 0.5)
        return np.asarray(masked_outputs(queue, row, visible).numpy(), np.float64)

    masker = library.maskers.Partition(np.zeros((1, size)), clustering=_tree(queue.segments[row].cpu().numpy(), size))
    with _fixed_numpy_state():
        answer = library.explainers.Partition(outputs, masker)(
            np.ones((1, size)), max_evals=samples, batch_size=max(50, queue.model.layout.batch_size), silent=True
        )
    values = torch.from_numpy(np.asarray(answer.values, dtype=np.float64).reshape(size))
    gap = float(outputs(np.ones((1, size)))[0] - outputs(np.zeros((1, size)))[0])
    return ShapleyValues.of(values, gap)


def _shap_library() -> Any:
    """The library, whose import warns of matplotlib's deprecations."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import shap
    return shap


def _tree(segments: NDArray[np.int64], size: int) -> NDArray[np.float64]:
    """Average linkage of the segments' centres, as scipy writes it."""
    from scipy.cluster.hierarchy import linkage

    rows, columns = np.indices(segments.shape)
    counts = np.bincount(segments.ravel(), minlength=size)
    centres = [np.bincount(segments.ravel(), axis.ravel(), minlength=size) / counts for axis in (rows, columns)]
    tree: NDArray[np.float64] = linkage(np.stack(centres, 1), "average")
    return tree


@contextmanager
def _fixed_numpy_state() -> Iterator[None]:
    """shap breaks ties with numpy's global generator: give it a fixed state, and put the caller's back."""
    before = np.random.get_state()
    np.random.seed(0)
    try:
        yield
    finally:
        np.random.set_state(before)
