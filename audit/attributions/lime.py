"""LIME on image segments: the lime package's answer from one queue of masks, all images together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from audit.core.registry import attribution
from audit.core.types import Images, PassCount
from audit.explanation.lime_package import LimeExplanation, lime_by_package
from audit.explanation.lime_regression import RidgeFit, lime_kernel_weights, weighted_ridge
from audit.explanation.mask_reuse import reuse_samples, scores_of
from audit.explanation.precision import (
    PRECISION_UNITS,
    MapEstimate,
    MapPrecision,
    expected_masks,
    looks_at,
    quality_of_maps,
    sample_until_precise,
)
from audit.explanation.spec import Attribution, ExplanationSpec
from audit.masking.queue import MaskQueue
from audit.masking.segmentation import segments_to_pixels, target_count
from audit.models.under_test import ModelUnderTest

_FIRST_LOOK = 4
"""Masks a segment at the first look, where a precision is asked for."""
_MASKS = 0.8
"""For `expected_masks`, measured on EfficientNet-Lite0 at 224 pixels."""


@attribution(
    reference="arXiv:1602.04938",
    needs="scores",
    signed=True,
    segment_based=True,
    baseline="segment-mean",
    passes=lambda settings, shape: PassCount(settings["samples"], 0),
    expected=lambda settings, shape: PassCount(expected_masks(settings, target_count(*shape[1:])[0], _MASKS), 0),
    quality_units={
        "r2": ("share", "higher"),
        "intercept": ("output", "neither"),
        "local_output": ("output", "neither"),
        **PRECISION_UNITS,
    },
    reuses_masks=lambda settings: settings.get("replay") is None and settings.get("engine") != "package",
    wraps="lime",
    version="1",
)
def lime(
    model: ModelUnderTest,
    images: Images,
    spec: ExplanationSpec,
    *,
    samples: int = 1000,
    kernel_width: float = 0.25,
    features: int | None = None,
    replay: int | None = None,
    precision: MapPrecision | None = None,
    engine: Literal["audit", "package"] = "audit",
) -> Attribution:
    """Coefficients of a ridge regression of the output on which segments are shown, near the whole image.

    The linear explanation of arXiv:1602.04938, as the lime package fits it to images. The map is (N, 1, H, W), in units
    of the output; `standard_error` is a map of it (the sandwich HC3 of MacKinnon and White 1985, a mask and its
    complement drawn as a pair counted as one draw). Quality: `r2` (weighted), `intercept`, `local_output` (the
    regression's value at the image), and see `audit.explanation.precision.PRECISION_UNITS`.

    Args:
        model: The model to explain.
        images: Float32 (N, C, H, W) in [0, 1].
        spec: What to explain, with segments.
        samples: Masks an image, at most; the first shows everything.
        kernel_width: Width of the proximity kernel on the cosine distance.
        features: Segments that get a coefficient, at most; None for all.
        replay: Draw the masks that `lime_image.LimeImageExplainer(random_state=replay)` draws, which gives its own
            coefficients; None to draw from each image's generator.
        precision: Draw masks with their complements, and stop once the map is off by at most this share of its size,
            with 95% probability; None for all samples, drawn one by one. With fewer masks the penalty is smaller in
            proportion, so that the limit is the same. The package knows none and asks all samples.
        engine: `package` runs the lime package's own `LimeImageExplainer` on the same segments, baseline and output,
            its `random_state` taken from `replay` or from each image's generator.
    """
    queue = spec.masks(model, images)
    if engine == "package":
        return _by_package(model, images, spec, samples, kernel_width, features, replay)
    paired = precision is not None and replay is None
    draws = [
        _replayed(replay, samples, size) if replay is not None else _random_masks(spec, queue, row, samples, paired)
        for row, size in enumerate(queue.sizes)
    ]
    fits: dict[int, RidgeFit] = {}

    def estimates(counts: Mapping[int, int]) -> Mapping[int, MapEstimate]:
        masks = [draws[row][:count] for row, count in counts.items()]
        answers = {}
        for row, sampled, outputs in zip(counts, masks, scores_of(queue, masks, list(counts)), strict=True):
            weights = lime_kernel_weights(sampled, kernel_width)
            fits[row] = weighted_ridge(sampled, outputs, weights, features, ridge=len(sampled) / samples)
            parts = fits[row].deviations
            answers[row] = MapEstimate(fits[row].coefficients, _of_pairs(parts) if paired else parts)
        return answers

    looks = [
        looks_at(samples if queue.is_complete(row) else _FIRST_LOOK * size, samples, precision, spec.count_of(row))
        for row, size in enumerate(queue.sizes)
    ]
    judged = sample_until_precise(looks, precision, estimates)
    if replay is None:
        for row, one in enumerate(judged):
            queue.offer_samples(row, draws[row][: one.samples])
    ordered = [fits[row] for row in range(len(draws))]
    return Attribution(
        segments_to_pixels([fit.coefficients for fit in ordered], queue.segments),
        _quality(ordered) | quality_of_maps(judged, precision),
        maps={"standard_error": segments_to_pixels([one.standard_errors for one in judged], queue.segments)},
    )


def _by_package(
    model: ModelUnderTest,
    images: Images,
    spec: ExplanationSpec,
    samples: int,
    kernel_width: float,
    features: int | None,
    replay: int | None,
) -> Attribution:
    segments = spec.masks(model, images).segments
    fits = [
        lime_by_package(
            model,
            images,
            spec,
            row,
            seed=int(spec.generators.keys[row]) % 2**32 if replay is None else replay,
            samples=samples,
            kernel_width=kernel_width,
            features=features,
        )
        for row in range(len(images))
    ]
    return Attribution(segments_to_pixels([fit.coefficients for fit in fits], segments), _quality(fits))


def _quality(fits: Sequence[RidgeFit | LimeExplanation]) -> dict[str, Tensor]:
    return {
        "r2": torch.tensor([fit.r2 for fit in fits], device="cpu"),
        "intercept": torch.tensor([fit.intercept for fit in fits], device="cpu"),
        "local_output": torch.tensor([fit.at_image for fit in fits], device="cpu"),
    }


def _random_masks(spec: ExplanationSpec, queue: MaskQueue, row: int, samples: int, paired: bool) -> Tensor:
    """Masks that show each segment with probability 1/2; in pairs of a mask and its complement, or independent.

    Pairs cancel what segments do together in twos and fours: on EfficientNet-Lite0 they need a third of the masks.
    """
    generator = spec.generators.select(torch.tensor([row], device=spec.targets.device))
    drawn = generator.integers(2, -(-samples // 2) if paired else samples, queue.sizes[row])[0].bool().cpu()
    masks = reuse_samples(queue, row, drawn, generator.fork(0), paired=paired)
    if not paired:
        return _whole_first(masks)
    masks = torch.stack([masks, ~masks], 1).flatten(0, 1)
    masks[1] = False
    return _whole_first(masks)[:samples]


def _of_pairs(parts: Tensor) -> Tensor:
    """The parts (M, n) of masks that stand beside their complements, added up by pair: a pair is one draw."""
    return torch.cat([parts[: len(parts) // 2 * 2].view(-1, 2, parts.shape[1]).sum(1), parts[len(parts) // 2 * 2 :]])


def _replayed(seed: int, samples: int, size: int) -> Tensor:
    """lime draws, and throws away, a seed for its segmentation before it draws its masks."""
    state = np.random.RandomState(seed)
    state.randint(0, high=1000)
    return _whole_first(torch.from_numpy(state.randint(0, 2, samples * size).reshape(samples, size) == 1))


def _whole_first(masks: Tensor) -> Tensor:
    masks[0] = True
    return masks
