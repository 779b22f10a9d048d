"""Several methods on the same images through one queue: a mask that two of them ask for is forwarded once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from audit.core.registry import Method, find
from audit.core.seeding import Generators
from audit.core.types import Images
from audit.explanation.build_spec import Targets, baseline_for, build_spec, check_pixels, uses_segments
from audit.explanation.run import AttributionResult, explain_images
from audit.explanation.spec import ExplanationSpec
from audit.masking.baselines import Fill
from audit.masking.queue import MaskQueue
from audit.masking.segmentation import segment_images
from audit.models.under_test import ModelUnderTest

MASK_SOURCE = "shap"
"""Whose masks the others spend: enumerated coalitions hold every one that sampling could ask for; sampled ones most."""
_MOST_MASKS_FIRST = (MASK_SOURCE, "lime", "rise")


@dataclass(frozen=True)
class ExplanationBatch:
    """`explanations` by method, and the `queue` that knows every mask they asked for: hand it to
    `audit.metrics.deletion_insertion.segment_curves` for their insertion and deletion."""

    explanations: Mapping[str, AttributionResult]
    queue: MaskQueue

    def __getitem__(self, method: str) -> AttributionResult:
        return self.explanations[method]


def explain_many(
    model: ModelUnderTest,
    images: Images,
    *,
    methods: Mapping[str, Mapping[str, Any]],
    targets: Targets = None,
    output: str = "logit",
    baseline: Fill = "segment-mean",
    segments: Tensor | None = None,
    seed: int = 0,
    ids: Sequence[str] | None = None,
) -> ExplanationBatch:
    """`explain_images` for each of `methods` (name to settings), segment methods sharing one queue.

    RISE and occlusion work over the segments too, unless their settings say otherwise (`over`). Exact and partition
    values, occlusion and all methods on images of at most 12 segments are those each gives alone on the same baseline
    and segments. LIME and RISE above that exchange masks they would draw for ones that Shapley's sampling asked,
    as large and as likely (see `audit.explanation.shared_samples`): the same estimator from another draw. `passes` of
    a later method are only what it added. Raises UsageError as `explain_images` does.
    """
    images = check_pixels(model, images)
    pieces = segment_images(images).segments if segments is None else segments
    shared = build_shared_specs(model, images, targets=targets, output=output, baseline=baseline, segments=pieces)
    explanations = {
        name: explain_images(
            model,
            images,
            method=name,
            targets=shared.targets,
            output=output,
            baseline=baseline,
            segments=pieces,
            seed=seed,
            ids=ids,
            queue=shared.queue,
            **{**_over_segments(name), **methods[name]},
        )
        for name in sorted(methods, key=_turn)
    }
    return ExplanationBatch(explanations, shared.masks(model, images))


def build_shared_specs(
    model: ModelUnderTest, images: Images, *, targets: Targets, output: str, baseline: Fill | None, segments: Tensor
) -> ExplanationSpec:
    """What all methods by segment are asked, with the `queue` that they share. Raises UsageError."""
    question = build_spec(
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
    return replace(question, queue=question.masks(model, images))


def can_reuse(method: Method, settings: Mapping[str, Any], baseline: Fill | None) -> bool:
    """Whether `method`, as set, can spend the lender's answers on the same images: by segment, over the same baseline,
    and free to exchange what it draws."""
    lender = find("attribution", MASK_SOURCE)
    alike = uses_segments(method, settings) and baseline_for(method, baseline) == baseline_for(lender, baseline)
    return alike and method.name != MASK_SOURCE and settings.get("replay") is None


def _turn(name: str) -> int:
    return _MOST_MASKS_FIRST.index(name) if name in _MOST_MASKS_FIRST else len(_MOST_MASKS_FIRST)


def _over_segments(name: str) -> dict[str, Any]:
    return {"over": "segments"} if "over" in find("attribution", name).defaults else {}
