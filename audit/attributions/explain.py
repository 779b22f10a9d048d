"""Explain images: put one question to one method, with every argument checked first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, cast

import torch
from torch import Tensor

from audit.attributions.explained import Explained, Explanation
from audit.attributions.library import differentiable
from audit.attributions.segmentation import check_segments, describe_segments, segment_images
from audit.errors import NotApplicable, UsageError, unknown_name
from audit.models.under_test import ModelUnderTest
from audit.passes.fills import Fill, describe_fill, fill_images
from audit.passes.scores import OUTPUTS
from audit.registry import Method, find
from audit.seeding import Generators, content_ids
from audit.types import Attributions, Images, Labels, Passes, Segments

Targets = Tensor | Sequence[int] | int | None
"""One class an image, one for all, or None: the predicted class."""


@dataclass(frozen=True)
class Explanations:
    """What a method says of some images.

    `attributions` float32 (N, C or 1, H, W), None when `status` is not_applicable, for the `reason` given;
    `targets` int64 (N,) and `segments` int64 (N, H, W), the question; `quality` of each answer, name to (N,)
    values; `maps` further tensors (N, C or 1, H, W); `facts` output, baseline, segments and the method's own, in
    words; `passes` the cost.
    """

    method: str
    status: Literal["measured", "not_applicable"]
    reason: str
    attributions: Attributions | None
    targets: Labels
    segments: Segments | None
    passes: Passes
    quality: Mapping[str, Tensor] = field(default_factory=dict)
    maps: Mapping[str, Tensor] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)


def explain_images(
    model: ModelUnderTest,
    images: Images,
    *,
    method: str,
    targets: Targets = None,
    output: str = "logit",
    baseline: Fill | None = None,
    segments: Tensor | None = None,
    references: Images | None = None,
    seed: int = 0,
    ids: Sequence[str] | None = None,
    **settings: Any,
) -> Explanations:
    """What `method` says of each image, (N, C, H, W) in [0, 1].

    `targets` as in `Targets`; `output` logit, probability or log-probability; `baseline` a number, a tensor, or mean,
    blur or segment-mean (each method's own by default); `segments` int64 (H, W) or (N, H, W), made to fit the size
    when a method needs them and none are given; `references` (B, C, H, W) the background images of methods that
    average over some (expected-gradients, deep-shap: without any they use the baseline alone); `ids` name the images
    for their random draws (by default their content does). Raises UsageError, one sentence, for anything else; a
    method without meaning here is not an error: see `Explanations.status`.
    """
    chosen = find("attribution", method)
    checked = chosen.settings(settings)
    images = check_pixels(model, images)
    with model.count() as spent:
        question = pose(
            model,
            images,
            chosen,
            targets=targets,
            output=output,
            baseline=baseline,
            segments=segments,
            references=references,
            generators=Generators.of(
                _names(ids, images), seed=seed, purpose=f"attribution/{method}", device=images.device
            ),
        )
        try:
            answer, reason = answer_of(chosen, model, images, question, checked), ""
        except NotApplicable as fault:
            answer, reason = None, str(fault)
    return Explanations(
        method=method,
        status="not_applicable" if answer is None else "measured",
        reason=reason,
        attributions=None if answer is None else answer.attributions,
        targets=question.targets,
        segments=question.segments,
        passes=spent.passes,
        quality={} if answer is None else answer.quality,
        maps={} if answer is None else answer.maps,
        facts=_words(chosen, question, baseline, segments) | ({} if answer is None else answer.facts),
    )


def answer_of(
    method: Method, model: ModelUnderTest, images: Images, question: Explained, settings: Mapping[str, Any]
) -> Explanation:
    """The method's answer, checked. Raises NotApplicable, also for gradient methods on a model without gradients."""
    needs_gradient = method.facts["needs"] != "scores"
    try:
        answer = cast(Explanation, method.function(model, images, question, **settings))
    except RuntimeError as fault:
        if needs_gradient and not differentiable(model):
            raise NotApplicable(_NO_GRADIENT) from fault
        raise
    if needs_gradient and not bool(answer.attributions.any()) and not differentiable(model):
        raise NotApplicable(_NO_GRADIENT)
    return answer


_NO_GRADIENT = (
    "The model's outputs have no gradient to the pixels (a rounding, a detach or a non-differentiable layer stands "
    "between); methods that need only scores, such as lime, shap or rise, apply."
)


def pose(
    model: ModelUnderTest,
    images: Images,
    method: Method,
    *,
    targets: Targets,
    output: str,
    baseline: Fill | None,
    segments: Tensor | None,
    references: Images | None,
    generators: Generators,
) -> Explained:
    """The question put to `method`, with its defaults filled in. Raises UsageError."""
    if output not in OUTPUTS:
        raise unknown_name("output", output, OUTPUTS)
    fill = _fill_of(method, baseline)
    pieces = None
    if segments is not None:
        pieces = check_segments(segments, images)
    elif method.facts["segment_based"] or fill == "segment-mean":
        pieces = segment_images(images)
    return Explained(
        targets=resolve_targets(model, images, targets),
        output=output,
        baseline=fill_images(images, fill, pieces),
        generators=generators,
        segments=pieces,
        references=None if references is None else check_pixels(model, references),
    )


def resolve_targets(model: ModelUnderTest, images: Images, targets: Targets) -> Labels:
    """The class to explain of each image, int64 (N,). Raises UsageError when one is out of range."""
    if targets is None:
        return model.predictions(images)
    chosen = torch.as_tensor(targets, device=images.device)
    if chosen.is_floating_point() or chosen.dtype == torch.bool or chosen.ndim > 1:
        raise UsageError(f"targets must be class numbers, one an image; {chosen.dtype} of shape {tuple(chosen.shape)}.")
    if chosen.ndim == 1 and len(chosen) != len(images):
        raise UsageError(f"{len(chosen)} targets were given for {len(images)} images: give one each, or one for all.")
    classes = len(model.classes)
    wrong = chosen[(chosen < 0) | (chosen >= classes)]
    if wrong.numel():
        raise UsageError(
            f"Target {int(wrong.flatten()[0])} is out of range: the model has {classes} classes, 0 to {classes - 1}."
        )
    return chosen.to(torch.int64).broadcast_to(len(images)).contiguous()


def check_pixels(model: ModelUnderTest, images: Images) -> Images:
    """`images` on the model's device. Raises UsageError (ModelError for a wrong shape) unless all lie in [0, 1]."""
    images = model.check_images(images)
    if not len(images):
        raise UsageError("No images were given to explain; give at least one, of shape (N, C, H, W).")
    if not bool(((images >= 0) & (images <= 1)).all()):
        raise UsageError("Images must lie in [0, 1], without NaN: divide by 255; the model normalises inside.")
    return images


def _fill_of(method: Method, baseline: Fill | None) -> Fill:
    return cast(Fill, method.facts.get("baseline", 0.0)) if baseline is None else baseline


def _names(ids: Sequence[str] | None, images: Images) -> Sequence[str]:
    if ids is not None and len(ids) != len(images):
        raise UsageError(f"{len(ids)} ids were given for {len(images)} images: give one each, or none.")
    return content_ids(images) if ids is None else ids


def _words(method: Method, question: Explained, baseline: Fill | None, segments: Tensor | None) -> dict[str, Any]:
    return {
        "output": question.output,
        "baseline": describe_fill(_fill_of(method, baseline)) if "baseline" in method.facts else "",
        "segments": "" if question.segments is None else describe_segments(question.segments, segments is not None),
    }
