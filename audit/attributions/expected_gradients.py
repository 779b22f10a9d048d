"""Expected gradients (GradientSHAP): integrated gradients averaged over references, by stratified sampling."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from audit.core.registry import attribution
from audit.core.seeding import Generators
from audit.core.types import Images, Logits, PassCount
from audit.explanation.gradients import output_gradient
from audit.explanation.spec import Attribution, ExplanationSpec
from audit.masking.evaluate import evaluate
from audit.models.under_test import ModelUnderTest


def _passes(settings: Mapping[str, Any], shape: tuple[int, ...]) -> PassCount:
    """The outputs of the image and of its references, beside the gradients."""
    ends = 1 + max(1, settings["references"])
    return PassCount(settings["samples"] + ends, settings["samples"])


@attribution(
    reference="arXiv:1906.10670",
    needs="gradients",
    signed=True,
    baseline=0.0,
    references=True,
    passes=_passes,
    quality_units={"completeness_residual": ("output", "lower")},
)
def expected_gradients(
    model: ModelUnderTest, images: Images, spec: ExplanationSpec, *, samples: int = 128
) -> Attribution:
    """The mean over references and places on the line to them of gradient x (image - reference).

    The expectation that defines expected gradients (arXiv:1906.10670). References are `spec.references`, or the
    baseline alone when there are none. Each is visited equally often, in an order of the image's own, and the places
    are stratified: at equal cost closer to the integral than independent draws, as of `shap.GradientExplainer`. The
    map is (N, C, H, W), in units of the output. Quality: `completeness_residual`, how far the map's sum is from the
    output less the mean output on the references.

    Args:
        model: The model to explain.
        images: Float32 (N, C, H, W) in [0, 1].
        spec: What to explain.
        samples: Gradients an image.
    """
    references = spec.baseline[:, None] if spec.references is None else spec.references[None]
    references_of, positions = _stratified(spec.generators, references.shape[1], samples)
    row = torch.arange(len(images), device=images.device)
    total = torch.zeros_like(images)
    group = max(1, model.layout.batch_size // len(images))
    for first in range(0, samples, group):
        columns, position = references_of[:, first : first + group], positions[:, first : first + group]
        reference = references[torch.zeros_like(columns) if len(references) == 1 else row[:, None], columns]
        difference = images[:, None] - reference
        inputs = reference + position[..., None, None, None].to(images.dtype) * difference
        gradient = output_gradient(model, inputs.flatten(0, 1), spec.select(row.repeat_interleave(columns.shape[1])))
        total += (gradient.view_as(inputs) * difference).sum(1)
    attributions = total / samples
    return Attribution(attributions, {"completeness_residual": _residual(model, images, spec, attributions)})


def _stratified(generators: Generators, count: int, samples: int) -> tuple[Tensor, Tensor]:
    """Which of `count` references, int64 (N, samples), and where on the line to it, in [0, 1], (N, samples).

    Each reference gets evenly spaced places, and all places together are even too.
    """
    strata = min(count, samples)
    sample = torch.arange(samples, device=generators.keys.device)
    slot, visit = sample % count, sample // count
    visits = -(-(samples - slot) // count)
    index = generators.fork(0).permutations(count)[:, slot]
    offset = generators.fork(1).permutations(strata)[:, slot] + generators.fork(2).uniform(samples)
    return index, (visit + offset / strata) / visits


def _residual(model: ModelUnderTest, images: Images, spec: ExplanationSpec, attributions: Images) -> Tensor:
    gap = _score(model, images, spec)
    if spec.references is None:
        gap = gap - _score(model, spec.baseline, spec)
    else:
        gap = gap - _mean_output(model, spec.references, spec)
    return (attributions.flatten(1).sum(1) - gap).abs()


def _score(model: ModelUnderTest, images: Images, spec: ExplanationSpec) -> Tensor:
    def score_rows(logits: Logits, rows: slice) -> Tensor:
        return spec.part(rows).score(logits)

    return evaluate(model, len(images), lambda rows: images[rows], score_rows)


def _mean_output(model: ModelUnderTest, references: Images, spec: ExplanationSpec) -> Tensor:
    """The mean output of each image's target over the references, (N,), from one forward of each."""
    logits = evaluate(model, len(references), lambda rows: references[rows], lambda logits, _: logits)
    columns = [spec.score(row.expand(len(spec.targets), -1).contiguous()) for row in logits]
    return torch.stack(columns).mean(0)
