"""Several methods on the same images through one queue: a mask that two of them ask for is forwarded once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from audit.attributions.explain import Explanations, explain_images
from audit.attributions.question import Targets, check_pixels, pose
from audit.attributions.segmentation import segment_images
from audit.models.under_test import ModelUnderTest
from audit.passes.fills import Fill
from audit.passes.masks import MaskQueue
from audit.registry import find
from audit.seeding import Generators
from audit.types import Images

_MOST_MASKS_FIRST = ("shap", "lime", "rise")
"""Enumerated coalitions hold every mask that sampling could ask for; sampled ones most."""


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
    shared = pose(
        model,
        images,
        find("attribution", "shap"),
        targets=targets,
        output=output,
        baseline=baseline,
        segments=pieces,
        references=None,
        generators=Generators(torch.zeros(len(images), dtype=torch.int64, device=images.device)),
        by_segment=True,
    )
    queue = shared.masks(model, images)
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
            queue=queue,
            **{**_over_segments(name), **methods[name]},
        )
        for name in sorted(methods, key=_turn)
    }
    return Together(explanations, queue)


def _turn(name: str) -> int:
    return _MOST_MASKS_FIRST.index(name) if name in _MOST_MASKS_FIRST else len(_MOST_MASKS_FIRST)


def _over_segments(name: str) -> dict[str, Any]:
    return {"over": "segments"} if "over" in find("attribution", name).defaults else {}
