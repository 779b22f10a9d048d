"""Infidelity: how badly a map, as a linear model, predicts what noise does to the output."""

from __future__ import annotations

import torch
from torch import Tensor

from audit.core.precise import precise
from audit.core.registry import metric
from audit.core.seeding import Generators
from audit.core.types import Attributions, Images, Labels, Logits
from audit.masking.evaluate import evaluate
from audit.masking.outputs import Output, score
from audit.models.under_test import ModelUnderTest


@metric(reference="arXiv:1901.09392", unit="share", better="lower")
def infidelity(
    model: ModelUnderTest,
    images: Images,
    attributions: Attributions,
    *,
    targets: Labels,
    generators: Generators,
    samples: int = 64,
    noise: float = 0.2,
    output: Output = "logit",
) -> Tensor:
    """The share of the output's squared change under noise that the map leaves unexplained, float64 (N,).

    Infidelity of arXiv:1901.09392 with Gaussian noise, the map at its best scale, which makes methods
    of different units comparable: 0 predicts everything, 1 nothing. Noisy images are clamped to [0, 1] and what was
    added is measured after it. 1 also where noise changes nothing.

    Args:
        model: The model that was explained.
        images: Float32 (N, C, H, W) in [0, 1].
        attributions: Float (N, C or 1, H, W).
        targets: The class explained of each image, int64 (N,).
        generators: One random generator an image.
        samples: Noisy copies an image.
        noise: Standard deviation of the noise, in the pixel range.
        output: The quantity that was explained.
    """
    count = len(images)
    index = torch.arange(count * samples, device=images.device)

    def noisy(rows: slice) -> tuple[Tensor, Images]:
        owner, sample = index[rows] // samples, index[rows] % samples
        normal = generators.select(owner).fork(sample).normal(*images.shape[1:])
        return owner, (images[owner] + noise * normal.to(images.dtype)).clamp(0, 1)

    def score_rows(logits: Logits, rows: slice) -> Tensor:
        owner, moved = noisy(rows)
        predicted = precise(((moved - images[owner]) * attributions[owner]).flatten(1)).sum(1)
        return torch.stack([precise(score(logits, targets[owner], output)), predicted], 1)

    pairs = evaluate(model, len(index), lambda rows: noisy(rows)[1], score_rows).view(count, samples, 2)
    change = pairs[..., 0] - _clean(model, images, targets, output)[:, None]
    predicted = pairs[..., 1]
    total = (change**2).sum(1)
    explained = (change * predicted).sum(1) ** 2 / (predicted**2).sum(1).clamp(min=1e-300)
    return torch.where(total > 0, 1 - explained / total.clamp(min=1e-300), 1.0)


def _clean(model: ModelUnderTest, images: Images, targets: Labels, output: Output) -> Tensor:
    return evaluate(
        model,
        len(images),
        lambda rows: images[rows],
        lambda logits, rows: precise(score(logits, targets[rows], output)),
    )
