"""LIME on image segments: the lime package's answer from one queue of masks, all images together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from audit.core.registry import attribution
from audit.core.types import Images, PassCount
from audit.explanation.lime_package import LimeExplanation, lime_by_package
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

_FORWARD_SELECTION_MAX = 6
"""Up to this many features lime selects one by one; beyond, by the size of the weights."""
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


@dataclass(frozen=True)
class RidgeFit:
    """A weighted linear regression on n segments.

    Attributes:
        coefficients: Float64 (n,), zero for segments that were not selected.
        intercept: The regression's value with no segment shown.
        r2: Weighted coefficient of determination.
        deviations: What each sample moves the coefficients by, float64 (M, n).
    """

    coefficients: Tensor
    intercept: float
    r2: float
    deviations: Tensor

    @property
    def at_image(self) -> float:
        """The regression's value with every segment shown."""
        return self.intercept + float(self.coefficients.sum())


def lime_kernel_weights(masks: Tensor, kernel_width: float) -> Tensor:
    """Weights of the samples, float64 (M,): the root of a Gaussian on the cosine distance to the whole image.

    Args:
        masks: Bool (M, n); one that shows nothing is at distance 1.
        kernel_width: Width of the Gaussian.
    """
    share = masks.double().mean(1)
    distance = torch.where(share > 0, 1 - share.sqrt(), torch.ones_like(share))
    return (-(distance**2) / kernel_width**2).exp().sqrt()


def weighted_ridge(
    masks: Tensor, outputs: Tensor, weights: Tensor, features: int | None = None, ridge: float = 1.0
) -> RidgeFit:
    """Weighted ridge regression with a free intercept, in float64, as scikit-learn's `Ridge` solves it.

    Args:
        masks: Bool (M, n).
        outputs: Float64 (M,).
        weights: Float64 (M,).
        features: Columns that get a coefficient, at most, selected as lime's `auto` does; None for all.
        ridge: The penalty on the coefficients.
    """
    design = masks.double()
    selected = _select(design, outputs, weights, features)
    coefficients = torch.zeros(design.shape[1], dtype=torch.float64, device=design.device)
    columns = design[:, selected]
    coefficients[selected] = _ridge(columns, outputs, weights, ridge)
    total = weights.sum()
    mean_output = (weights * outputs).sum() / total
    intercept = mean_output - (weights @ design / total) @ coefficients
    residuals = outputs - intercept - design @ coefficients
    error = (weights * residuals**2).sum()
    spread = (weights * (outputs - mean_output) ** 2).sum()
    r2 = float(1 - error / spread) if spread > 0 else float(error == 0)
    deviations = torch.zeros_like(design)
    deviations[:, selected] = _influence(columns, residuals, weights, ridge)
    return RidgeFit(coefficients, float(intercept), r2, deviations)


def _select(design: Tensor, outputs: Tensor, weights: Tensor, features: int | None) -> Tensor:
    count = design.shape[1]
    if features is None:
        return torch.arange(count, device=design.device)
    if features <= _FORWARD_SELECTION_MAX:
        return _forward_selection(design, outputs, weights, min(features, count))
    size = _ridge(design, outputs, weights, 0.01).abs() * design[0]
    return size.argsort(descending=True, stable=True)[:features]


def _ridge(design: Tensor, outputs: Tensor, weights: Tensor, ridge: float) -> Tensor:
    gram, moment = _normal_equations(design, outputs, weights)
    gram.diagonal().add_(ridge)
    return torch.cholesky_solve(moment[:, None], torch.linalg.cholesky(gram)).squeeze(1)


def _influence(design: Tensor, residuals: Tensor, weights: Tensor, ridge: float) -> Tensor:
    """What leaving out each sample would move the coefficients by, nearly, (M, n): HC3's parts of their variance."""
    gram = _normal_equations(design, residuals, weights)[0]
    gram.diagonal().add_(ridge)
    total = weights.sum()
    centred = design - weights @ design / total
    levers = torch.cholesky_solve(centred.T, torch.linalg.cholesky(gram)).T
    leverage = weights * ((levers * centred).sum(1) + 1 / total)
    return levers * (weights * residuals / (1 - leverage).clamp(min=1e-6))[:, None]


def _normal_equations(design: Tensor, outputs: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    total = weights.sum()
    centred = design - weights @ design / total
    scaled = centred * weights[:, None]
    return scaled.T @ centred, scaled.T @ (outputs - (weights * outputs).sum() / total)


def _forward_selection(design: Tensor, outputs: Tensor, weights: Tensor, count: int) -> Tensor:
    """Add, one by one, the column that explains most; each candidate is a small solve on the Gram matrix."""
    gram, moment = _normal_equations(design, outputs, weights)
    selected: list[int] = []
    for _ in range(count):
        free = [column for column in range(design.shape[1]) if column not in selected]
        index = torch.tensor([[*selected, column] for column in free], device=design.device)
        grams = gram[index[:, :, None], index[:, None, :]]
        moments = moment[index]
        explained = (moments * (torch.linalg.pinv(grams, hermitian=True) @ moments[..., None]).squeeze(-1)).sum(1)
        selected.append(free[int(explained.argmax())])
    return torch.tensor(selected, device=design.device)
