"""The regression that LIME fits to the outputs under masks, as the lime package does."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from audit.core.precise import precise

_FORWARD_SELECTION_MAX = 6
"""Up to this many features lime selects one by one; beyond, by the size of the weights."""


@dataclass(frozen=True)
class RidgeFit:
    """A weighted linear regression on n segments.

    Attributes:
        coefficients: Float64 (n,), zero for segments that were not selected.
        intercept: The regression's value with no segment shown.
        r2: Weighted coefficient of determination.
        deviations: What each sample moves the coefficients by, float64 (M, n).
    """

    coefficients: Tensor
    intercept: float
    r2: float
    deviations: Tensor

    @property
    def at_image(self) -> float:
        """The regression's value with every segment shown."""
        return self.intercept + float(self.coefficients.sum())


def lime_kernel_weights(masks: Tensor, kernel_width: float) -> Tensor:
    """Weights of the samples, float64 (M,): the root of a Gaussian on the cosine distance to the whole image.

    Args:
        masks: Bool (M, n); one that shows nothing is at distance 1.
        kernel_width: Width of the Gaussian.
    """
    share = precise(masks).mean(1)
    distance = torch.where(share > 0, 1 - share.sqrt(), torch.ones_like(share))
    return (-(distance**2) / kernel_width**2).exp().sqrt()


def weighted_ridge(
    masks: Tensor, outputs: Tensor, weights: Tensor, features: int | None = None, ridge: float = 1.0
) -> RidgeFit:
    """Weighted ridge regression with a free intercept, in float64, as scikit-learn's `Ridge` solves it.

    Args:
        masks: Bool (M, n).
        outputs: Float64 (M,).
        weights: Float64 (M,).
        features: Columns that get a coefficient, at most, selected as lime's `auto` does; None for all.
        ridge: The penalty on the coefficients.
    """
    design = precise(masks)
    selected = _select(design, outputs, weights, features)
    coefficients = torch.zeros(design.shape[1], dtype=torch.float64, device=design.device)
    columns = design[:, selected]
    coefficients[selected] = _ridge(columns, outputs, weights, ridge)
    total = weights.sum()
    mean_output = (weights * outputs).sum() / total
    intercept = mean_output - (weights @ design / total) @ coefficients
    residuals = outputs - intercept - design @ coefficients
    error = (weights * residuals**2).sum()
    spread = (weights * (outputs - mean_output) ** 2).sum()
    r2 = float(1 - error / spread) if spread > 0 else float(error == 0)
    deviations = torch.zeros_like(design)
    deviations[:, selected] = _influence(columns, residuals, weights, ridge)
    return RidgeFit(coefficients, float(intercept), r2, deviations)


def _select(design: Tensor, outputs: Tensor, weights: Tensor, features: int | None) -> Tensor:
    count = design.shape[1]
    if features is None:
        return torch.arange(count, device=design.device)
    if features <= _FORWARD_SELECTION_MAX:
        return _forward_selection(design, outputs, weights, min(features, count))
    size = _ridge(design, outputs, weights, 0.01).abs() * design[0]
    return size.argsort(descending=True, stable=True)[:features]


def _ridge(design: Tensor, outputs: Tensor, weights: Tensor, ridge: float) -> Tensor:
    gram, moment = _normal_equations(design, outputs, weights)
    gram.diagonal().add_(ridge)
    return torch.cholesky_solve(moment[:, None], torch.linalg.cholesky(gram)).squeeze(1)


def _influence(design: Tensor, residuals: Tensor, weights: Tensor, ridge: float) -> Tensor:
    """What leaving out each sample would move the coefficients by, nearly, (M, n): HC3's parts of their variance."""
    gram = _normal_equations(design, residuals, weights)[0]
    gram.diagonal().add_(ridge)
    total = weights.sum()
    centred = design - weights @ design / total
    levers = torch.cholesky_solve(centred.T, torch.linalg.cholesky(gram)).T
    leverage = weights * ((levers * centred).sum(1) + 1 / total)
    return levers * (weights * residuals / (1 - leverage).clamp(min=1e-6))[:, None]


def _normal_equations(design: Tensor, outputs: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    total = weights.sum()
    centred = design - weights @ design / total
    scaled = centred * weights[:, None]
    return scaled.T @ centred, scaled.T @ (outputs - (weights * outputs).sum() / total)


def _forward_selection(design: Tensor, outputs: Tensor, weights: Tensor, count: int) -> Tensor:
    """Add, one by one, the column that explains most; each candidate is a small solve on the Gram matrix."""
    gram, moment = _normal_equations(design, outputs, weights)
    selected: list[int] = []
    for _ in range(count):
        free = [column for column in range(design.shape[1]) if column not in selected]
        index = torch.tensor([[*selected, column] for column in free], device=design.device)
        grams = gram[index[:, :, None], index[:, None, :]]
        moments = moment[index]
        explained = (moments * (torch.linalg.pinv(grams, hermitian=True) @ moments[..., None]).squeeze(-1)).sum(1)
        selected.append(free[int(explained.argmax())])
    return torch.tensor(selected, device=design.device)
