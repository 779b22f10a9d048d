"""What does it look at: one attribution method on some images."""

from __future__ import annotations

from typing import Any

from audit.explanation.run import AttributionResult, explain_images
from audit.models.under_test import ModelUnderTest


def explain(
    model: ModelUnderTest,
    images: Any,
    *,
    method: str,
    targets: Any = None,
    output: str = "logit",
    baseline: Any = None,
    segments: Any = None,
    seed: int = 0,
    **settings: Any,
) -> AttributionResult:
    """The attributions of `method` ("saliency", "lime", ...: see `audit methods attribution`) for each image.

    `images` float (N, C, H, W) in [0, 1]; `targets` the class explained, one an image or one for all (None: the
    predicted one); `output` logit, probability or log-probability; `baseline` a number, a tensor, or mean, blur
    or segment-mean; `segments` int64 (H, W) or (N, H, W). A method without meaning for this model is no error:
    `.status` is "not_applicable" and `.reason` says why. Raises UsageError for anything that cannot be asked.
    """
    return explain_images(
        model,
        images,
        method=method,
        targets=targets,
        output=output,
        baseline=baseline,
        segments=segments,
        seed=seed,
        **settings,
    )
