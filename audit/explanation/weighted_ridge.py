"""The weighted linear regression behind LIME, in float64, as scikit-learn's ridge solves it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

_FEW = 6
"""Up to this many kept segments lime selects forward; beyond, by the size of the weights."""


@dataclass(frozen=True)
class RidgeFit:
    """`coefficients` float64 (segments,), zero for those not kept; `r2` weighted; `at_image` the value with
    every segment shown."""

    coefficients: Tensor
    intercept: float
    r2: float

    @property
    def at_image(self) -> float:
        """The regression's value with every segment shown."""
        return self.intercept + float(self.coefficients.sum())


def lime_kernel_weights(masks: Tensor, kernel_width: float) -> Tensor:
    """Weights float64 (M,): the root of a Gaussian on the cosine distance to the whole image; an empty mask is at 1."""
    shown = masks.double().mean(1)
    distance = torch.where(shown > 0, 1 - shown.sqrt(), torch.ones_like(shown))
    return (-(distance**2) / kernel_width**2).exp().sqrt()


def weighted_ridge(
    masks: Tensor, outputs: Tensor, weights: Tensor, features: int | None = None, ridge: float = 1.0
) -> RidgeFit:
    """Weighted ridge regression of `outputs` (M,) on `masks` (M, n) with a free intercept, on at most `features`
    columns, chosen as lime's `auto` does."""
    design = masks.double()
    kept = _select(design, outputs, weights, features)
    solved = _ridge(design[:, kept], outputs, weights, ridge)
    coefficients = torch.zeros(design.shape[1], dtype=torch.float64, device=design.device)
    coefficients[kept] = solved
    total = weights.sum()
    mean_output = (weights * outputs).sum() / total
    intercept = mean_output - (weights @ design / total) @ coefficients
    error = (weights * (outputs - intercept - design @ coefficients) ** 2).sum()
    spread = (weights * (outputs - mean_output) ** 2).sum()
    r2 = float(1 - error / spread) if spread > 0 else float(error == 0)
    return RidgeFit(coefficients, float(intercept), r2)


def _select(design: Tensor, outputs: Tensor, weights: Tensor, features: int | None) -> Tensor:
    count = design.shape[1]
    if features is None:
        return torch.arange(count, device=design.device)
    if features <= _FEW:
        return _forward_selection(design, outputs, weights, min(features, count))
    size = _ridge(design, outputs, weights, 0.01).abs() * design[0]
    return size.argsort(descending=True, stable=True)[:features]


def _ridge(design: Tensor, outputs: Tensor, weights: Tensor, ridge: float) -> Tensor:
    gram, moment = _normal_equations(design, outputs, weights)
    gram.diagonal().add_(ridge)
    return torch.cholesky_solve(moment[:, None], torch.linalg.cholesky(gram)).squeeze(1)


def _normal_equations(design: Tensor, outputs: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    total = weights.sum()
    centred = design - weights @ design / total
    scaled = centred * weights[:, None]
    return scaled.T @ centred, scaled.T @ (outputs - (weights * outputs).sum() / total)


def _forward_selection(design: Tensor, outputs: Tensor, weights: Tensor, wanted: int) -> Tensor:
    """Add, one by one, the column that explains most; each candidate is a small solve on the Gram matrix."""
    gram, moment = _normal_equations(design, outputs, weights)
    kept: list[int] = []
    for _ in range(wanted):
        free = [column for column in range(design.shape[1]) if column not in kept]
        index = torch.tensor([[*kept, column] for column in free], device=design.device)
        grams = gram[index[:, :, None], index[:, None, :]]
        moments = moment[index]
        explained = (moments * (torch.linalg.pinv(grams, hermitian=True) @ moments[..., None]).squeeze(-1)).sum(1)
        kept.append(free[int(explained.argmax())])
    return torch.tensor(kept, device=design.device)
