"""Explain images: put one question to one method, with every argument checked first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, cast

from torch import Tensor

from audit.core.errors import NotApplicable
from audit.core.registry import Method, find
from audit.core.seeding import Generators
from audit.core.types import Attributions, Images, Labels, PassCount, Segments
from audit.explanation.build_spec import (
    Targets,
    as_tensor,
    baseline_for,
    build_spec,
    check_pixels,
    ids_for,
    uses_segments,
)
from audit.explanation.captum_guard import has_input_gradient
from audit.explanation.spec import Attribution, ExplanationSpec
from audit.masking.baselines import Fill, describe_fill
from audit.masking.queue import MaskQueue
from audit.models.under_test import ModelUnderTest


@dataclass(frozen=True)
class AttributionResult:
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
    passes: PassCount
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
) -> AttributionResult:
    """What `method` says of each image, (N, C, H, W) in [0, 1].

    `targets` as in `Targets`; `output` logit, probability or log-probability; `baseline` a number, a tensor, or mean,
    blur or segment-mean (each method's own by default); `segments` int64 (H, W) or (N, H, W), made to fit the size
    when a method needs them and none are given; `references` (B, C, H, W) the background images of methods that
    average over some (expected-gradients, deep-shap: without any they use the baseline alone); `ids` name the images
    for their random draws (by default their content does); `queue` lets segment methods share
    masks (see `explain_together`). Raises UsageError, one sentence, for anything else; a
    method without meaning here is not an error: see `AttributionResult.status`.
    """
    chosen = find("attribution", method)
    checked = chosen.settings(settings)
    images, baseline, segments = check_pixels(model, images), as_tensor(baseline), as_tensor(segments)
    with model.count() as spent:
        question = build_spec(
            model,
            images,
            chosen,
            targets=targets,
            output=output,
            baseline=baseline,
            segments=segments,
            references=references,
            generators=Generators.of(
                ids_for(ids, images), seed=seed, purpose=f"attribution/{method}", device=images.device
            ),
            by_segment=uses_segments(chosen, checked),
            queue=queue,
        )
        try:
            answer, reason = run_method(chosen, model, images, question, checked), ""
        except NotApplicable as fault:
            answer, reason = None, str(fault)
    return AttributionResult(
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


def run_method(
    method: Method, model: ModelUnderTest, images: Images, question: ExplanationSpec, settings: Mapping[str, Any]
) -> Attribution:
    """The method's answer, checked. Raises NotApplicable, also for gradient methods on a model without gradients."""
    needs_gradient = method.facts["needs"] != "scores"
    try:
        answer = cast(Attribution, method.function(model, images, question, **settings))
    except RuntimeError as fault:
        if needs_gradient and not has_input_gradient(model):
            raise NotApplicable(_NO_GRADIENT) from fault
        raise
    if needs_gradient and not bool(answer.attributions.any()) and not has_input_gradient(model):
        raise NotApplicable(_NO_GRADIENT)
    return answer


_NO_GRADIENT = (
    "The model's outputs have no gradient to the pixels (a rounding, a detach or a non-differentiable layer stands "
    "between); methods that need only scores, such as lime, shap or rise, apply."
)


def _words(method: Method, question: ExplanationSpec, baseline: Fill | None) -> dict[str, Any]:
    fill = describe_fill(baseline_for(method, baseline)) if "baseline" in method.facts else ""
    averaged = question.references if method.facts.get("references") else None
    return {
        "output": question.output,
        "baseline": fill if averaged is None else f"{len(averaged)} reference images",
        "segments": question.segmentation,
    }
