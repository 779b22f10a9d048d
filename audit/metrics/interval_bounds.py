"""Interval bounds: an eps for each image below which no linf perturbation can break the net."""

from __future__ import annotations

import torch
from torch import Tensor

from audit.bounds.prover import Prover
from audit.bounds.region import Region
from audit.core.precise import precise
from audit.core.registry import metric
from audit.core.types import Batch
from audit.models.under_test import ModelUnderTest


@metric(reference="arXiv:1810.12715", unit="pixel range", better="higher", version="2")
def interval_bounds(model: ModelUnderTest, batch: Batch, *, largest: float = 1.0, bisections: int = 14) -> Tensor:
    """The largest eps up to `largest` at which each image is proved unbroken, float64 (N,); 0 where none is.

    Boxes go through the net operation by operation in float64, the last dense layer joined with the differences of the
    logits (Gowal et al. 2018). A lower bound on the true distance, and a loose one on nets not trained for it.

    Args:
        model: A model that scores classes.
        batch: N images with labels and, where it has one, a goal.
        largest: The largest eps to try, linf in the pixel range.
        bisections: Halvings of the interval in which eps lies.

    Raises:
        NotApplicable: The net holds an operation that bounds have no rule for, or does not score classes.
    """
    prover = Prover(model)
    images = model.check_images(batch.images)
    prover.check_agreement(images)
    goal = batch.target_mask(len(model.classes)).to(model.device)
    predicted = model.predictions(images)
    functions, exact = prover.margins(predicted, goal), precise(images)
    right = ~goal.gather(1, predicted[:, None])[:, 0].to(exact.device)
    low = torch.zeros(len(images), dtype=torch.float64, device=exact.device)
    high = torch.full_like(low, largest)
    for step in range(bisections + 1):
        eps = high if step == 0 else (low + high) / 2
        size = eps.view(-1, 1, 1, 1)
        region = Region(exact, (exact - size).clamp(0, 1), (exact + size).clamp(0, 1))
        proved = prover.interval_proofs(region, functions) & right
        low, high = torch.where(proved, eps, low), torch.where(proved, high, eps)
    model.charge(prover.passes)
    return low
