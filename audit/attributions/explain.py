"""Explain images: put one question to one method, with every argument checked first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, cast

from torch import Tensor

from audit.attributions.explained import Explained, Explanation
from audit.attributions.library import differentiable
from audit.attributions.question import Targets, asks_segments, check_pixels, fill_of, names_for, pose, tensor_of
from audit.errors import NotApplicable
from audit.models.under_test import ModelUnderTest
from audit.passes.fills import Fill, describe_fill
from audit.passes.masks import MaskQueue
from audit.registry import Method, find
from audit.seeding import Generators
from audit.types import Attributions, Images, Labels, Passes, Segments


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
    queue: MaskQueue | None = None,
    **settings: Any,
) -> Explanations:
    """What `method` says of each image, (N, C, H, W) in [0, 1].

    `targets` as in `Targets`; `output` logit, probability or log-probability; `baseline` a number, a tensor, or mean,
    blur or segment-mean (each method's own by default); `segments` int64 (H, W) or (N, H, W), made to fit the size
    when a method needs them and none are given; `references` (B, C, H, W) the background images of methods that
    average over some (expected-gradients, deep-shap: without any they use the baseline alone); `ids` name the images
    for their random draws (by default their content does); `queue` lets segment methods share
    masks (see `explain_together`). Raises UsageError, one sentence, for anything else; a
    method without meaning here is not an error: see `Explanations.status`.
    """
    chosen = find("attribution", method)
    checked = chosen.settings(settings)
    images, baseline, segments = check_pixels(model, images), tensor_of(baseline), tensor_of(segments)
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
                names_for(ids, images), seed=seed, purpose=f"attribution/{method}", device=images.device
            ),
            by_segment=asks_segments(chosen, checked),
            queue=queue,
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
        facts=_words(chosen, question, baseline) | ({} if answer is None else answer.facts),
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


def _words(method: Method, question: Explained, baseline: Fill | None) -> dict[str, Any]:
    fill = describe_fill(fill_of(method, baseline)) if "baseline" in method.facts else ""
    averaged = question.references if method.facts.get("references") else None
    return {
        "output": question.output,
        "baseline": fill if averaged is None else f"{len(averaged)} reference images",
        "segments": question.segmentation,
    }
