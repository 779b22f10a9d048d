"""Expected gradients (GradientSHAP): integrated gradients averaged over references, by stratified sampling."""

from __future__ import annotations

import torch
from torch import Tensor

from audit.core.registry import attribution
from audit.core.seeding import Generators
from audit.core.types import Images, Logits
from audit.explanation.gradients import output_gradient
from audit.explanation.spec import Attribution, ExplanationSpec
from audit.masking.queue import evaluate
from audit.models.under_test import ModelUnderTest


@attribution(reference="arXiv:1906.10670", needs="gradients", signed=True, baseline=0.0, references=True)
def expected_gradients(
    model: ModelUnderTest, images: Images, explained: ExplanationSpec, *, samples: int = 128
) -> Attribution:
    """The mean over references and places on the line to them of gradient x (image - reference).

    References are `ExplanationSpec.references`, or the baseline alone when there are none. Each is visited equally
    often, in an order of the image's own, and the places are stratified: at equal cost closer to the integral than
    independent draws, as of `shap.GradientExplainer`. Quality:
    `completeness_residual`, from the mean output on the references used. Units: output.
    """
    references = explained.baseline[:, None] if explained.references is None else explained.references[None]
    chosen, place = _stratified(explained.generators, references.shape[1], samples)
    row = torch.arange(len(images), device=images.device)
    total = torch.zeros_like(images)
    group = max(1, model.layout.batch_size // len(images))
    for first in range(0, samples, group):
        which, where = chosen[:, first : first + group], place[:, first : first + group]
        reference = references[torch.zeros_like(which) if len(references) == 1 else row[:, None], which]
        difference = images[:, None] - reference
        inputs = reference + where[..., None, None, None].to(images.dtype) * difference
        gradient = output_gradient(model, inputs.flatten(0, 1), explained.select(row.repeat_interleave(which.shape[1])))
        total += (gradient.view_as(inputs) * difference).sum(1)
    attributions = total / samples
    return Attribution(attributions, {"completeness_residual": _residual(model, images, explained, attributions)})


def _stratified(generators: Generators, count: int, samples: int) -> tuple[Tensor, Tensor]:
    """Which reference, int64 (N, samples), and where on the line to it, (N, samples): each reference gets evenly spaced
    places, and all places together are even too."""
    strata = min(count, samples)
    sample = torch.arange(samples, device=generators.keys.device)
    slot, visit = sample % count, sample // count
    visits = -(-(samples - slot) // count)
    chosen = generators.fork(0).permutations(count)[:, slot]
    offset = generators.fork(1).permutations(strata)[:, slot] + generators.fork(2).uniform(samples)
    return chosen, (visit + offset / strata) / visits


def _residual(model: ModelUnderTest, images: Images, explained: ExplanationSpec, attributions: Images) -> Tensor:
    gap = _score(model, images, explained)
    if explained.references is None:
        gap = gap - _score(model, explained.baseline, explained)
    else:
        gap = gap - _mean_output(model, explained.references, explained)
    return (attributions.flatten(1).sum(1) - gap).abs()


def _score(model: ModelUnderTest, images: Images, explained: ExplanationSpec) -> Tensor:
    def judge(logits: Logits, part: slice) -> Tensor:
        return explained.part(part).score(logits)

    return evaluate(model, len(images), lambda part: images[part], judge)


def _mean_output(model: ModelUnderTest, references: Images, explained: ExplanationSpec) -> Tensor:
    """The mean output of each image's target over the references, (N,), from one forward of each."""
    logits = evaluate(model, len(references), lambda part: references[part], lambda found, _: found)
    columns = [explained.score(row.expand(len(explained.targets), -1).contiguous()) for row in logits]
    return torch.stack(columns).mean(0)
