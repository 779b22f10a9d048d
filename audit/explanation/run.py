"""Explain images: ask one method about them, with every argument checked first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, cast

from torch import Tensor

from audit.core.errors import AuditError, NotApplicable
from audit.core.note import NO_NOTE, Note, note
from audit.core.registry import Method, find
from audit.core.seeding import Generators
from audit.core.types import Attributions, Images, Labels, PassCount, Segments
from audit.explanation.closed_net import why_closed
from audit.explanation.gradient_border import missing_gradient
from audit.explanation.gradients import has_input_gradient
from audit.explanation.noise_floor import without_rounding
from audit.explanation.spec import (
    Attribution,
    ExplanationSpec,
    TargetClasses,
    as_tensor,
    baseline_for,
    build_spec,
    check_explained_images,
    ids_for,
    uses_segments,
)
from audit.masking.baselines import Fill, describe_fill
from audit.masking.queue import MaskQueue
from audit.models.ambient_torch import in_plain_torch
from audit.models.under_test import ModelUnderTest, require_wrapped

_NO_GRADIENT = note(
    "no_gradient",
    "The model's outputs have no gradient to the pixels (a rounding, a detach or a non-differentiable layer stands "
    "between); methods that need only scores, such as lime, shap or rise, apply.",
)
_PARTLY_WITHOUT = note(
    "partly_without_gradient",
    "A part of the forward pass that this method takes gradients in runs without autograd (torch.no_grad, a detach or "
    "NumPy); methods that need only scores, such as lime, shap or rise, apply.",
)
_NOT_FINITE = note(
    "baseline_not_finite",
    "The model's answer to the reference input is NaN or infinite, as where a net divides by the spread of a picture "
    "of one colour. Another one, such as blur, may serve: --set explanations.baseline=blur (baseline of "
    "audit.explain).",
)
_WITHOUT_GRADIENT = ("does not require grad", "not have been used in the graph", "that requires grad")
"""What autograd says of a tensor that it did not follow."""


@dataclass(frozen=True)
class AttributionResult:
    """One method's answer about N images, with the arguments it stands for.

    Attributes:
        method: The name of the attribution.
        status: `not_applicable` where the method has no meaning for the model.
        reason: Why it is not applicable, a sentence; empty where measured.
        attributions: Float32 (N, C or 1, H, W); None where not applicable.
        targets: The class explained of each image, int64 (N,).
        segments: int64 (N, H, W), numbered from 0 in each image; None for methods by pixel.
        passes: Examples forwarded and back-propagated.
        quality: How good each image's answer is, name to (N,) values.
        maps: Further maps (N, C or 1, H, W) by name, such as standard errors.
        facts: Output, baseline and segments in words, and the method's own facts.
        notes: Why the model's answers or gradients are in doubt, and what was done to the images; empty otherwise.
    """

    method: str
    status: Literal["measured", "not_applicable"]
    reason: Note
    attributions: Attributions | None
    targets: Labels
    segments: Segments | None
    passes: PassCount
    quality: Mapping[str, Tensor] = field(default_factory=dict)
    maps: Mapping[str, Tensor] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


@in_plain_torch
def explain_images(
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
    queue: MaskQueue | None = None,
    counts: Tensor | None = None,
    **settings: Any,
) -> AttributionResult:
    """Explain each image by one method.

    A method that has no meaning for the model is not an error: see `AttributionResult.status`.

    Args:
        model: The model to explain.
        images: Float32 (N, C, H, W) in [0, 1].
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
        queue: Lets segment methods share the answers to their masks (see `audit.explanation.mask_reuse.explain_many`).
        counts: How many samples each image gets, int64 (N,), as a map had that this one is to be compared with; None
            for as many as the settings say.
        settings: The method's settings.

    Raises:
        UsageError: An argument or a setting has a wrong name, shape, type or range.
        ModelError: The images have another shape than the model's input.
    """
    require_wrapped(model)
    registered = find("attribution", method)
    checked = registered.settings(settings)
    images, baseline, segments = check_explained_images(model, images), as_tensor(baseline), as_tensor(segments)
    with model.count() as counter:
        spec = build_spec(
            model,
            images,
            registered,
            targets=targets,
            output=output,
            baseline=baseline,
            segments=segments,
            references=references,
            generators=Generators.of(
                ids_for(ids, images), seed=seed, purpose=f"attribution/{method}", device=images.device
            ),
            by_segment=uses_segments(registered, checked),
            queue=queue,
            counts=counts,
        )
        try:
            attribution, reason = run_method(registered, model, images, spec, checked), NO_NOTE
        except NotApplicable as fault:
            attribution, reason = None, fault.reason
    return AttributionResult(
        method=method,
        status="not_applicable" if attribution is None else "measured",
        reason=reason,
        attributions=None if attribution is None else attribution.attributions,
        targets=spec.targets,
        segments=spec.segments,
        passes=counter.passes,
        quality={} if attribution is None else attribution.quality,
        maps={} if attribution is None else attribution.maps,
        facts=_describe(registered, spec, baseline) | ({} if attribution is None else attribution.facts),
    )


def run_method(
    method: Method, model: ModelUnderTest, images: Images, spec: ExplanationSpec, settings: Mapping[str, Any]
) -> Attribution:
    """Call the method, check that a gradient method had a gradient to work with, and empty maps of mere rounding.

    Args:
        method: A registered attribution.
        model: The model to explain.
        images: Float32 (N, C, H, W) in [0, 1].
        spec: What to explain.
        settings: The method's settings, complete.

    Raises:
        NotApplicable: The method has no meaning for the model, or needs a gradient that the model does not have.
        AuditError: What it returned has a wrong shape, or is not finite.
    """
    needs_gradient = method.facts["needs"] != "scores"
    if needs_gradient and (reason := missing_gradient(model)):
        raise NotApplicable(reason)
    closed = why_closed(model.net)
    if closed is not None and method.facts["needs"] == "spatial layer":
        raise NotApplicable(closed)
    try:
        attribution = cast(Attribution, method.function(model, images, spec, **settings))
    except NotApplicable as fault:
        if closed is not None and fault.reason.key == "untraceable":
            raise NotApplicable(closed) from fault
        raise
    except (RuntimeError, AttributeError) as fault:  # of a library that was given no gradient, too
        if needs_gradient and not has_input_gradient(model):
            raise NotApplicable(_NO_GRADIENT) from fault
        if needs_gradient and any(words in str(fault) for words in _WITHOUT_GRADIENT):
            raise NotApplicable(_PARTLY_WITHOUT) from fault
        raise
    if not bool(attribution.attributions.isfinite().all()):
        _require_finite_answers(model, images, spec)
    _require_maps(method, attribution, images)
    if needs_gradient and not bool(attribution.attributions.any()) and not has_input_gradient(model):
        raise NotApplicable(_NO_GRADIENT)
    maps = without_rounding(method, model, images, spec, attribution.attributions)
    return attribution if maps is attribution.attributions else replace(attribution, attributions=maps)


def _require_finite_answers(model: ModelUnderTest, images: Images, spec: ExplanationSpec) -> None:
    """Raise NotApplicable where it is the model that answers with NaN or infinity on the reference input."""
    if not bool(model.logits(spec.baseline).isfinite().all()):
        raise NotApplicable(_NOT_FINITE)


def _require_maps(method: Method, attribution: Attribution, images: Images) -> None:
    """A map for each image, of its height and width and of one or all of its channels, without NaN or infinity."""
    maps = attribution.attributions
    count, channels, height, width = images.shape
    if maps.shape not in ((count, channels, height, width), (count, 1, height, width)):
        raise AuditError(
            f"Attribution {method.name} returned maps of shape {tuple(maps.shape)}; {(count, channels, height, width)} "
            f"or {(count, 1, height, width)} was expected."
        )
    if not bool(maps.isfinite().all()):
        raise AuditError(f"Attribution {method.name} returned NaN or infinity; finite numbers were expected.")


def _reference_images(count: int) -> Note:
    return note("reference_images", "{count} reference images", count=count)


def _describe(method: Method, spec: ExplanationSpec, baseline: Fill | None) -> dict[str, Any]:
    fill = describe_fill(baseline_for(method, baseline)) if "baseline" in method.facts else ""
    background = spec.references if method.facts["references"] else None
    return {
        "output": spec.output,
        "baseline": fill if background is None else _reference_images(len(background)),
        "segments": spec.segmentation or "",
    }
