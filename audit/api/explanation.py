"""Explanations of images, with the checks of the model before them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from torch import Tensor

from audit.api.inputs import as_image_tensor, given_image_notes
from audit.core.registry import find
from audit.core.seeding import content_ids
from audit.core.types import Batch, Images
from audit.explanation.run import AttributionResult, explain_images
from audit.explanation.spec import TargetClasses
from audit.masking.baselines import Fill
from audit.metrics.model_checks import doubts
from audit.models.ambient_torch import in_plain_torch
from audit.models.under_test import ModelUnderTest

_EXAMINED = 2
"""Images on which the model is examined: an explanation costs little more itself."""


@in_plain_torch
def explain(
    model: ModelUnderTest,
    images: Images,
    *,
    method: str,
    targets: TargetClasses = None,
    output: str = "logit",
    baseline: Fill | None = None,
    segments: Tensor | None = None,
    references: Images | None = None,
    seed: int = 0,
    ids: Sequence[str] | None = None,
    precision: float | None = None,
    **settings: Any,
) -> AttributionResult:
    """Explain each image by one method.

    A method that has no meaning for the model is not an error: see `AttributionResult.status`. What is in doubt about
    the model's answers and gradients is said in its notes.

    Args:
        model: The model to explain, from `wrap`.
        images: Floats (N, C, H, W) in [0, 1].
        method: The name of a registered attribution.
        targets: The class to explain: one an image, one for all, or None for the predicted class.
        output: `logit`, `probability` or `log-probability`.
        baseline: The reference input: a number, a tensor that broadcasts to the images, `mean`, `blur` or
            `segment-mean`; None for the method's default.
        segments: Integer (H, W) or (N, H, W); made to fit the image size where None and the method needs any.
        references: Background images (B, C, H, W) in [0, 1] of methods that average over some (expected-gradients,
            deep-shap); None for the baseline alone.
        seed: Seeds the method's random draws, together with the ids.
        ids: One name an image, for its random draws; made from the pixels where None.
        precision: Of lime, shap, rise, expected-gradients, smooth-grad and integrated-gradients: stop once a map is off
            by at most this share of its size, in (0, 1], with 95% probability; `quality` says whether it came so far.
            None for all samples.
        settings: The method's settings.

    Raises:
        UsageError: An argument or a setting has a wrong name, shape, type or range.
        DataError: Images are of the wrong type or range.
        ModelError: The images have another shape than the model's input.
    """
    registered = find("attribution", method)
    if precision is not None:
        settings["precision"] = precision
    result = explain_images(
        model,
        images,
        method=method,
        targets=targets,
        output=output,
        baseline=baseline,
        segments=segments,
        references=references,
        seed=seed,
        ids=ids,
        **settings,
    )
    return replace(result, notes=_notes(model, images, gradients=registered.facts["needs"] != "scores", seed=seed))


def _notes(model: ModelUnderTest, images: Any, *, gradients: bool, seed: int) -> tuple[str, ...]:
    few = as_image_tensor(model, images[:_EXAMINED])
    batch = Batch(few, model.predictions(few), content_ids(few))
    reasons = doubts(model, batch, seed, "gradients" if gradients else "answers")
    faces = model.gradient_point.notes if gradients else ()
    return tuple(map(str, (*given_image_notes(images), *model.notes, *faces, *reasons)))
