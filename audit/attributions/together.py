"""Several methods on the same images through one queue: a mask that two of them ask for is forwarded once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from audit.attributions.explain import Explanations, explain_images
from audit.attributions.explained import Explained
from audit.attributions.question import Targets, asks_segments, check_pixels, fill_of, pose
from audit.attributions.segmentation import segment_images
from audit.models.under_test import ModelUnderTest
from audit.passes.fills import Fill
from audit.passes.masks import MaskQueue
from audit.registry import Method, find
from audit.seeding import Generators
from audit.types import Images

LENDER = "shap"
"""Whose masks the others spend: enumerated coalitions hold every one that sampling could ask for; sampled ones most."""
_MOST_MASKS_FIRST = (LENDER, "lime", "rise")


@dataclass(frozen=True)
class Together:
    """`explanations` by method, and the `queue` that knows every mask they asked for: hand it to
    `audit.metrics.removal.segment_curves` for their insertion and deletion."""

    explanations: Mapping[str, Explanations]
    queue: MaskQueue

    def __getitem__(self, method: str) -> Explanations:
        return self.explanations[method]


def explain_together(
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
) -> Together:
    """`explain_images` for each of `methods` (name to settings), segment methods sharing one queue.

    RISE and occlusion work over the segments too, unless their settings say otherwise (`over`). Exact and partition
    values, occlusion and all methods on images of at most 12 segments are those each gives alone on the same baseline
    and segments. LIME and RISE above that exchange masks they would draw for ones that Shapley's sampling asked,
    as large and as likely (see `audit.attributions.sharing`): the same estimator from another draw. `passes` of a later
    method are only what it added. Raises UsageError as `explain_images` does.
    """
    images = check_pixels(model, images)
    pieces = segment_images(images).segments if segments is None else segments
    shared = pose_shared(model, images, targets=targets, output=output, baseline=baseline, segments=pieces)
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
    return Together(explanations, shared.masks(model, images))


def pose_shared(
    model: ModelUnderTest, images: Images, *, targets: Targets, output: str, baseline: Fill | None, segments: Tensor
) -> Explained:
    """What all methods by segment are asked, with the `queue` that they share. Raises UsageError."""
    question = pose(
        model,
        images,
        find("attribution", LENDER),
        targets=targets,
        output=output,
        baseline=baseline,
        segments=segments,
        references=None,
        generators=Generators(torch.zeros(len(images), dtype=torch.int64, device=images.device)),
        by_segment=True,
    )
    return replace(question, queue=question.masks(model, images))


def borrows(method: Method, settings: Mapping[str, Any], baseline: Fill | None) -> bool:
    """Whether `method`, as set, can spend the lender's answers on the same images: by segment, over the same baseline,
    and free to exchange what it draws."""
    lender = find("attribution", LENDER)
    alike = asks_segments(method, settings) and fill_of(method, baseline) == fill_of(lender, baseline)
    return alike and method.name != LENDER and settings.get("replay") is None


def _turn(name: str) -> int:
    return _MOST_MASKS_FIRST.index(name) if name in _MOST_MASKS_FIRST else len(_MOST_MASKS_FIRST)


def _over_segments(name: str) -> dict[str, Any]:
    return {"over": "segments"} if "over" in find("attribution", name).defaults else {}
