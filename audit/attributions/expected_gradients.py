"""Expected gradients (GradientSHAP): integrated gradients averaged over references, by stratified sampling."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from audit.core.registry import attribution
from audit.core.seeding import Generators
from audit.core.types import Images, Logits, PassCount
from audit.explanation.gradient_means import GROUPS, maps_of, mean_maps
from audit.explanation.gradients import output_gradient
from audit.explanation.precision import PRECISION_UNITS, MapPrecision, quality_of_maps
from audit.explanation.spec import Attribution, ExplanationSpec
from audit.masking.evaluate import evaluate
from audit.models.under_test import ModelUnderTest

_ROUNDS = 4
"""From so many visits of each reference on, a group of samples holds all of them."""


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
    quality_units={"completeness_residual": ("output", "lower"), **PRECISION_UNITS},
)
def expected_gradients(
    model: ModelUnderTest,
    images: Images,
    spec: ExplanationSpec,
    *,
    samples: int = 128,
    precision: MapPrecision | None = None,
) -> Attribution:
    """The mean over references and places on the line to them of gradient x (image - reference).

    The expectation that defines expected gradients (arXiv:1906.10670). References are `spec.references`, or the
    baseline alone when there are none. Each is visited equally often, in an order of the image's own, and the places
    are stratified: at equal cost closer to the integral than independent draws, as of `shap.GradientExplainer`. The
    map is (N, C, H, W), in units of the output; `standard_error` is a map of it, from groups each of which is
    stratified. Quality: `completeness_residual`, how far the map's sum is from the output less the mean output on the
    references, and see `audit.explanation.precision.PRECISION_UNITS`.

    Args:
        model: The model to explain.
        images: Float32 (N, C, H, W) in [0, 1].
        spec: What to explain.
        samples: Gradients an image; with a precision, at most.
        precision: Stop once the map is off by at most this share of its size, with 95% probability; None for all
            samples.
    """
    references = spec.baseline[:, None] if spec.references is None else spec.references[None]
    references_of, positions = _stratified(spec.generators, references.shape[1], samples)

    def products(rows: Tensor, numbers: Tensor) -> Images:
        column, position = references_of[rows, numbers], positions[rows, numbers]
        reference = references[torch.zeros_like(column) if len(references) == 1 else rows, column]
        difference = images[rows] - reference
        inputs = reference + position[:, None, None, None].to(images.dtype) * difference
        return output_gradient(model, inputs, spec.select(rows)) * difference

    judged = mean_maps(
        images,
        spec,
        products,
        samples=samples,
        together=references.shape[1] if _is_in_rounds(references.shape[1], samples) else 1,
        precision=precision,
        at_once=max(len(images), model.layout.batch_size),
    )
    attributions, errors = maps_of(judged, images)
    quality = {"completeness_residual": _residual(model, images, spec, attributions)}
    return Attribution(attributions, quality | quality_of_maps(judged, precision), maps={"standard_error": errors})


def _is_in_rounds(count: int, samples: int) -> bool:
    """Whether so many samples visit each of the references several times."""
    return samples >= _ROUNDS * count


def _stratified(generators: Generators, count: int, samples: int) -> tuple[Tensor, Tensor]:
    """Which of `count` references, int64 (N, samples), and where on the line to it, in [0, 1], (N, samples).

    Each reference gets evenly spaced places, and all places together are even too. They stand in groups that hold
    every reference once, at places that are even again (a Latin square); or, where samples are few for the references,
    that share as few of them as can be. Groups come in random order, so that the first are a random sample of all, of
    whose error the differences between them tell.
    """
    strata = min(count, samples)
    sample = torch.arange(samples, device=generators.keys.device)
    slot, visit = sample % count, sample // count
    visits = -(-(samples - slot) // count)
    index = generators.fork(0).permutations(count)[:, slot]
    stratum = generators.fork(1).permutations(strata)[:, slot]
    position = (visit + (stratum + generators.fork(2).uniform(samples)) / strata) / visits
    if _is_in_rounds(count, samples):
        rounds = -(-samples // count)
        group = (stratum + visit) % -(-rounds // -(-rounds // GROUPS))
    else:
        group = (stratum + _ROUNDS * visit) % GROUPS
    turn = generators.fork(3).permutations(GROUPS)
    order = turn.gather(1, group).argsort(dim=1, stable=True)
    return index.gather(1, order), position.gather(1, order)


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
