"""Several methods on the same images through one queue: a mask that two of them ask for is forwarded once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from audit.attributions.explain import Explanations, explain_images
from audit.attributions.question import Targets, check_pixels, pose
from audit.attributions.segmentation import segment_images
from audit.models.under_test import ModelUnderTest
from audit.passes.fills import Fill
from audit.registry import find
from audit.seeding import Generators
from audit.types import Images

_MOST_MASKS_FIRST = ("shap", "lime")
"""Enumerated coalitions hold every mask that sampling could ask for."""


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
) -> dict[str, Explanations]:
    """`explain_images` for each of `methods` (name to settings), segment methods sharing one queue.

    The maps are those each would give alone on the same baseline and segments; `passes` of a later one are only what it
    added. Raises UsageError as `explain_images` does.
    """
    images = check_pixels(model, images)
    pieces = segment_images(images) if segments is None else segments
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
    )
    queue = shared.masks(model, images)
    order = sorted(methods, key=lambda name: _MOST_MASKS_FIRST.index(name) if name in _MOST_MASKS_FIRST else 99)
    return {
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
            **methods[name],
        )
        for name in order
    }
