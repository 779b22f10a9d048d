"""Mask reuse: methods on the same images ask one queue, which forwards a mask that two of them use once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from audit.core.registry import Method, find
from audit.core.seeding import Generators
from audit.core.types import Images
from audit.explanation.run import AttributionResult, explain_images
from audit.explanation.shapley_exact import MAX_AUTO_SEGMENTS
from audit.explanation.spec import (
    ExplanationSpec,
    TargetClasses,
    baseline_for,
    build_spec,
    check_explained_images,
    uses_segments,
)
from audit.masking.baselines import Fill
from audit.masking.queue import MaskQueue, first_of_each
from audit.masking.segmentation import max_segments, segment_images
from audit.models.under_test import ModelUnderTest

MASK_SOURCE = "shap"
"""The method whose masks the others reuse: it asks for every mask, or for more than any other."""
MASKS = "masks"
"""The name of the explanation by `MASK_SOURCE` among the inputs of a cell that reuses its masks."""
_MOST_MASKS_FIRST = (MASK_SOURCE, "lime", "rise")


@dataclass(frozen=True)
class ExplanationBatch:
    """Several methods' answers about the same images.

    Attributes:
        explanations: The result by method.
        queue: Knows the output under every mask they asked for: hand it to
            `audit.metrics.deletion_insertion.segment_curves` for their insertion and deletion.
    """

    explanations: Mapping[str, AttributionResult]
    queue: MaskQueue

    def __getitem__(self, method: str) -> AttributionResult:
        return self.explanations[method]


def explain_many(
    model: ModelUnderTest,
    images: Images,
    *,
    methods: Mapping[str, Mapping[str, Any]],
    targets: TargetClasses = None,
    output: str = "logit",
    baseline: Fill = "segment-mean",
    segments: Tensor | None = None,
    seed: int = 0,
    ids: Sequence[str] | None = None,
) -> ExplanationBatch:
    """Call `explain_images` for several methods, of which those by segment share one queue.

    RISE and occlusion work over the segments too, unless their settings say otherwise (`over`). Exact and partition
    values, occlusion and all methods on images of at most 12 segments are those each gives alone on the same baseline
    and segments. LIME and RISE above that exchange masks they would draw for ones that Shapley's sampling asked,
    as large and as likely (see `reuse_samples`): the same estimator from another draw. `passes` of a later method are
    only what it added.

    Args:
        model: The model to explain.
        images: Float32 (N, C, H, W) in [0, 1].
        methods: Settings by the name of the method.
        targets: The class to explain: one an image, one for all, or None for the predicted class.
        output: `logit`, `probability` or `log-probability`.
        baseline: The reference input of all methods, as for `explain_images`.
        segments: Integer (H, W) or (N, H, W); made to fit the image size where None.
        seed: Seeds the methods' random draws, together with the ids.
        ids: One name an image, for its random draws; made from the pixels where None.

    Raises:
        UsageError: An argument or a setting has a wrong name, shape, type or range.
    """
    images = check_explained_images(model, images)
    segments = segment_images(images).segments if segments is None else segments
    shared = build_shared_specs(model, images, targets=targets, output=output, baseline=baseline, segments=segments)
    explanations = {
        name: explain_images(
            model,
            images,
            method=name,
            targets=shared.targets,
            output=output,
            baseline=baseline,
            segments=segments,
            seed=seed,
            ids=ids,
            queue=shared.queue,
            **{**_over_segments(name), **methods[name]},
        )
        for name in sorted(methods, key=_turn)
    }
    return ExplanationBatch(explanations, shared.masks(model, images))


def build_shared_specs(
    model: ModelUnderTest,
    images: Images,
    *,
    targets: TargetClasses,
    output: str,
    baseline: Fill | None,
    segments: Tensor,
) -> ExplanationSpec:
    """What all methods by segment are asked, with the `queue` that they share.

    Args:
        model: The model to explain.
        images: Float32 (N, C, H, W) in [0, 1].
        targets: The class to explain: one an image, one for all, or None for the predicted class.
        output: `logit`, `probability` or `log-probability`.
        baseline: The reference input; None for the default of `MASK_SOURCE`.
        segments: Integer (H, W) or (N, H, W).

    Raises:
        UsageError: An argument has a wrong name, shape, type or range.
    """
    spec = build_spec(
        model,
        images,
        find("attribution", MASK_SOURCE),
        targets=targets,
        output=output,
        baseline=baseline,
        segments=segments,
        references=None,
        generators=Generators(torch.zeros(len(images), dtype=torch.int64, device=images.device)),
        by_segment=True,
    )
    return replace(spec, queue=spec.masks(model, images))


def can_reuse(method: Method, settings: Mapping[str, Any], baseline: Fill | None) -> bool:
    """Whether a method can reuse the answers of `MASK_SOURCE` on the same images: by segment, over the same baseline.

    Args:
        method: A registered attribution, which may declare `reuses_masks`, `(settings) -> bool`.
        settings: Its settings.
        baseline: The reference input asked for; None for each method's default.
    """
    source = find("attribution", MASK_SOURCE)
    alike = uses_segments(method, settings) and baseline_for(method, baseline) == baseline_for(source, baseline)
    allowed = method.facts.get("reuses_masks")
    return alike and method.name != MASK_SOURCE and (allowed is None or bool(allowed(settings)))


def evaluates_every_mask(settings: Mapping[str, Any], shape: tuple[int, ...]) -> bool:
    """Whether `MASK_SOURCE` evaluates all masks of every image, so that whoever reuses them has nothing to evaluate.

    Args:
        settings: The settings of `MASK_SOURCE`.
        shape: Of an image, (C, H, W).
    """
    offered = settings.get("algorithm") in ("auto", "exact") and settings.get("engine") != "package"
    return offered and max_segments(*shape[1:]) <= MAX_AUTO_SEGMENTS


def scores_of(queue: MaskQueue, masks: Sequence[Tensor], rows: Sequence[int] | None = None) -> list[Tensor]:
    """The output under each image's own masks, float64 (M,) each, on the CPU; all images in one call of the queue.

    Args:
        queue: Evaluates masks of N images.
        masks: Bool (M, segments) of each image.
        rows: Which images they are; None for all N in order.
    """
    widest = max(mask.shape[1] for mask in masks)
    padded = torch.cat([torch.nn.functional.pad(mask, (0, widest - mask.shape[1])) for mask in masks])
    lengths = [len(mask) for mask in masks]
    numbers = torch.tensor(range(len(masks)) if rows is None else rows, dtype=torch.int64, device="cpu")
    owners = numbers.repeat_interleave(torch.tensor(lengths, device="cpu"))
    device = queue.images.device
    scores = queue.scores(owners.to(device), padded.to(device)).cpu().double()
    return list(torch.split(scores, lengths))


def reuse_samples(queue: MaskQueue, row: int, masks: Tensor, generator: Generators, *, paired: bool = False) -> Tensor:
    """Exchange as many random masks as possible for ones that other methods offered for the same image.

    A mask whose segments are shown independently with one probability is, given how many it shows, uniform among the
    masks of that size; so is every offered one. Exchanging equal sizes therefore keeps the distribution of each mask,
    and the estimator built on them, while it saves passes; the first of a size are exchanged first, so that of a part
    of the masks, too, as many as possible are known. Where nothing is offered, or every mask is known already, the
    masks come back as they are. Whoever asks for what is returned offers it in turn.

    Args:
        queue: Evaluates masks of N images.
        row: The image.
        masks: Bool (M, segments), each segment shown independently with one probability.
        generator: One generator, which chooses among the offered masks.
        paired: Whether each mask stands for itself and its complement, whose segments are as likely to be shown: the
            one of the two that shows segment 0 is then given back, and exchanged for such.

    Returns:
        Bool (M, segments).
    """
    pool, masks = queue.offered_samples(row), _of_pair(masks) if paired else masks
    if not len(pool) or queue.is_complete(row):
        return masks
    if paired:
        pool = _of_pair(pool)
        pool = pool[first_of_each(pool)]
    return _exchange(masks, pool[generator.permutations(len(pool))[0].cpu()])


def sum_by_pair(masks: Tensor, parts: Tensor) -> Tensor:
    """What goes with a mask and with its complement added up: drawn together, they are one draw and not two.

    Args:
        masks: Bool (M, segments), on the CPU.
        parts: Float64 (M, P).

    Returns:
        Float64 (pairs, P), of M - pairs complete pairs and of masks without their complement.
    """
    bits = np.packbits(_of_pair(masks).numpy(), axis=1)
    pair = torch.from_numpy(np.unique(bits, axis=0, return_inverse=True)[1]).flatten()
    return parts.new_zeros(int(pair.max()) + 1, parts.shape[1]).index_add_(0, pair, parts)


def _of_pair(masks: Tensor) -> Tensor:
    """Of each mask and its complement the one that shows segment 0."""
    return masks ^ ~masks[:, :1]


def _exchange(masks: Tensor, pool: Tensor) -> Tensor:
    """Size by size, the first masks become the first of the pool."""
    exchanged, sizes, pool_sizes = masks.clone(), masks.sum(1), pool.sum(1)
    for size in sorted(set(pool_sizes.tolist())):
        replaced, available = (sizes == size).nonzero().flatten(), (pool_sizes == size).nonzero().flatten()
        count = min(len(replaced), len(available))
        exchanged[replaced[:count]] = pool[available[:count]]
    return exchanged


def _turn(name: str) -> int:
    return _MOST_MASKS_FIRST.index(name) if name in _MOST_MASKS_FIRST else len(_MOST_MASKS_FIRST)


def _over_segments(name: str) -> dict[str, Any]:
    return {"over": "segments"} if "over" in find("attribution", name).defaults else {}
