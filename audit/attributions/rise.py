"""RISE: how much higher the output is when a pixel happens to be shown."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor

from audit.core.precise import precise, precise_device
from audit.core.registry import attribution
from audit.core.seeding import Generators
from audit.core.types import Images, Logits, PassCount
from audit.explanation.mask_reuse import reuse_samples, scores_of, sum_by_pair
from audit.explanation.precision import (
    PRECISION_UNITS,
    JudgedMap,
    MapEstimate,
    MapPrecision,
    looks_at,
    pooled,
    quality_of_maps,
    sample_until_precise,
)
from audit.explanation.spec import Attribution, ExplanationSpec
from audit.masking.evaluate import BufferPool, evaluate
from audit.masking.queue import MaskQueue
from audit.masking.segmentation import segments_to_pixels
from audit.masking.soft_masks import SoftMasks, draw_soft_masks
from audit.models.under_test import ModelUnderTest

_FIRST_LOOK = 4
"""Masks a cell, or a segment, at the first look, where a precision is asked for."""
_GROUPS = 16
"""Into so many random groups the masks are dealt; leaving out one after the other tells the error of the map."""


@attribution(
    reference="arXiv:1806.07421",
    needs="scores",
    signed=True,
    baseline="mean",
    passes=lambda settings, shape: PassCount(settings["samples"], 0),
    quality_units=PRECISION_UNITS,
    version="3",
)
def rise(
    model: ModelUnderTest,
    images: Images,
    spec: ExplanationSpec,
    *,
    samples: int = 1000,
    cells: int = 7,
    shown: float = 0.5,
    over: Literal["grid", "segments"] = "grid",
    precision: MapPrecision | None = None,
) -> Attribution:
    """The mean output under random soft masks, weighted by how far they show each pixel, minus the plain mean.

    Masks are `cells` x `cells` grids of bits, enlarged bilinearly with a random shift and blended with the baseline
    (arXiv:1806.07421). Subtracting the mean leaves the paper's order of pixels and takes most of its noise away. The
    map is (N, 1, H, W), in units of the output; `standard_error` is a map of it, by a jackknife over groups of masks.
    Quality: see `audit.explanation.precision.PRECISION_UNITS`.

    Args:
        model: The model to explain.
        images: Float32 (N, C, H, W) in [0, 1].
        spec: What to explain.
        samples: Masks an image; with a precision, at most.
        cells: Rows and columns of the grid.
        shown: The probability with which a cell, or a segment, is shown, in (0, 1).
        over: Soft masks of a grid, or hard-edged ones of segments, whose answers segment methods share (see
            `audit.explanation.mask_reuse.explain_many`).
        precision: Stop once the map is off by at most this share of its size, with 95% probability; None for all
            samples.
    """
    if over == "segments":
        return _over_segments(spec.masks(model, images), spec, samples, shown, precision)
    buffers, judged = BufferPool(), []
    for row in range(len(images)):
        sampled = _SampledImage(model, images[row], spec.part(slice(row, row + 1)), cells, shown, buffers)
        looks = looks_at(_FIRST_LOOK * (cells + 1) ** 2, samples, precision, spec.count_of(row))
        judged += sample_until_precise([looks], precision, sampled.estimates)
    size = (len(images), 1, *images.shape[2:])
    maps, errors = (
        torch.stack(columns).view(size).float()
        for columns in ([one.values for one in judged], [one.standard_errors for one in judged])
    )
    return Attribution(maps, quality_of_maps(judged, precision), maps={"standard_error": errors})


def _over_segments(
    queue: MaskQueue, spec: ExplanationSpec, samples: int, shown: float, precision: float | None
) -> Attribution:
    drawn = [_hard_masks(spec.generators, queue, row, samples, shown) for row in range(len(queue.images))]
    every = [queue.is_complete(row) for row in range(len(drawn))]
    exchanged = [bool(len(queue.offered_samples(row))) and not every[row] for row in range(len(drawn))]

    def estimates(counts: Mapping[int, int]) -> Mapping[int, MapEstimate]:
        masks = [drawn[row][:count] for row, count in counts.items()]
        return {
            row: _segment_estimate(sampled, outputs, paired=exchanged[row])
            for row, sampled, outputs in zip(counts, masks, scores_of(queue, masks, list(counts)), strict=True)
        }

    looks = [
        looks_at(samples if known else _FIRST_LOOK * size, samples, precision, spec.count_of(row))
        for row, (known, size) in enumerate(zip(every, queue.sizes, strict=True))
    ]
    judged = sample_until_precise(looks, precision, estimates)
    for row, one in enumerate(judged):
        queue.offer_samples(row, drawn[row][: one.samples])
    return _attribution_by_segment(judged, queue, precision)


def _attribution_by_segment(judged: list[JudgedMap], queue: MaskQueue, precision: float | None) -> Attribution:
    return Attribution(
        segments_to_pixels([one.values for one in judged], queue.segments),
        quality_of_maps(judged, precision),
        maps={"standard_error": segments_to_pixels([one.standard_errors for one in judged], queue.segments)},
    )


def _segment_estimate(masks: Tensor, outputs: Tensor, *, paired: bool) -> MapEstimate:
    """The mean output where each segment is shown less the mean, with what each mask adds to their errors."""
    visible = precise(masks)
    times = visible.sum(0).clamp(min=1)
    means = outputs @ visible / times
    parts = visible * (outputs[:, None] - means) / times - (outputs - outputs.mean())[:, None] / len(outputs)
    return MapEstimate(means - outputs.mean(), sum_by_pair(masks, parts) if paired else parts)


def _hard_masks(generators: Generators, queue: MaskQueue, row: int, samples: int, shown: float) -> Tensor:
    generator = Generators(generators.keys[row : row + 1])
    masks = generator.fork(0).uniform(samples, queue.sizes[row])[0].cpu() < shown
    return reuse_samples(queue, row, masks, generator.fork(1))


class _SampledImage:
    """One image under ever more masks, whose sums are kept by group."""

    def __init__(
        self, model: ModelUnderTest, image: Tensor, spec: ExplanationSpec, cells: int, shown: float, buffers: BufferPool
    ) -> None:
        self.model, self.image, self.spec = model, image, spec
        self.cells, self.shown, self.buffers = cells, shown, buffers
        self.asked = self.chunks = 0
        self.sums = torch.zeros(2, _GROUPS, *image.shape[1:], dtype=torch.float64, device=precise_device(image.device))
        self.totals = torch.zeros(2, _GROUPS, dtype=torch.float64, device=precise_device(image.device))

    def estimates(self, counts: Mapping[int, int]) -> Mapping[int, MapEstimate]:
        """After `counts[0]` masks, those of earlier calls among them."""
        self._add(counts[0] - self.asked)
        groups = int((self.totals[1] > 0).sum())
        whole = self._map(self.sums.sum(1), self.totals.sum(1))
        without = [
            self._map(self.sums.sum(1) - self.sums[:, group], self.totals.sum(1) - self.totals[:, group])
            for group in range(groups if groups > 1 else 0)
        ]
        left_out = torch.stack(without).flatten(1) if without else whole.flatten()[None]
        # The grouped jackknife (Tukey 1958; Efron and Tibshirani 1993, equation 11.5).
        deviations = (left_out - left_out.mean(0)) * math.sqrt(max(groups - 1, 1) / max(groups, 1))
        return {0: MapEstimate(whole.flatten(), deviations, pooled(whole[None, None])[0])}

    def _map(self, sums: Tensor, totals: Tensor) -> Tensor:
        """The weighted mean of arXiv:1806.07421, over the masks' own sum in place of its expectation, less the mean."""
        return sums[0] / sums[1].clamp(min=1e-12) - totals[0] / totals[1].clamp(min=1)

    def _add(self, count: int) -> None:
        """Each chunk of masks is drawn from a stream of its own, the first from the image's."""
        generators = self.spec.generators.fork(16 + self.chunks) if self.chunks else self.spec.generators
        height, width = self.image.shape[1:]
        masks = draw_soft_masks(generators, count, (height, width), self.cells, self.shown)
        outputs = _outputs(self.model, self.image, self.spec, masks, self.buffers)
        masks, order = masks.to(outputs.device), generators.fork(3).permutations(count)[0].to(outputs.device)
        for group in range(min(_GROUPS, count)):
            members = order[group::_GROUPS]
            weights = torch.stack([outputs[members], torch.ones_like(outputs[members])])
            self.sums[:, group] += masks.totals(weights, members)
            self.totals[:, group] += weights.sum(1)
        self.asked, self.chunks = self.asked + count, self.chunks + 1


def _outputs(
    model: ModelUnderTest, image: Tensor, spec: ExplanationSpec, masks: SoftMasks, buffers: BufferPool
) -> Tensor:
    """The output under each mask, float64 (M,)."""

    def compose(rows: slice) -> Tensor:
        enlarged = buffers.like(image[None, :1], "masks", rows.stop - rows.start)
        masks.enlarge(rows, enlarged.squeeze(1))
        return torch.lerp(spec.baseline, image, enlarged, out=buffers.like(image[None], "images", len(enlarged)))

    def score_rows(logits: Logits, rows: slice) -> Tensor:
        return spec.score(logits, spec.targets.expand(len(logits)))

    return precise(evaluate(model, len(masks.grids), compose, score_rows))
