"""Training images behind an answer: the nearest by features, and those whose gradients the answer's own goes along.

TracIn (arXiv:2002.08484, equation 1 with the checkpoints of section 3.2): the influence of a training image z' on the
loss at z is sum_i eta_i grad loss(w_i, z) . grad loss(w_i, z'). Over the last linear layer with features h, logits
s (W h + b) and cross-entropy, the gradient to (W, b) is the outer product s (p - y) (h, 1), with the probabilities p
and the label y as a unit vector, so that the product of two gradients is s^2 ((p - y) . (p' - y')) (h . h' + 1)
(section 4.1, there without the bias). A positive value: a step on z' lowers the loss at z, z' supports it.

Divided by the length of the training image's gradient it is RelatIF (arXiv:2003.11630, equation 8 without the Hessian),
which keeps the few images of high loss from being named behind every answer.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from audit.core.evidence import Array
from audit.core.types import Labels, Logits

_AT_ONCE = 1 << 22
"""Distances held at once."""


@dataclass(frozen=True)
class HeadGradients:
    """The gradients of losses to the last layer, kept as their factors.

    Attributes:
        errors: Probabilities less the label as a unit vector, times the scale of the logits, float (N, classes).
        features: The layer's input, float (N, D).
    """

    errors: Tensor
    features: Tensor

    @property
    def squares(self) -> Tensor:
        """Each gradient's squared length, the influence of an image on itself, (N,)."""
        return self.errors.square().sum(1) * (self.features.square().sum(1) + 1)

    def products(self, others: HeadGradients) -> Tensor:
        """The products of these gradients with others, (N, M).

        Args:
            others: M of them.
        """
        return (self.errors @ others.errors.T) * (self.features @ others.features.T + 1)


def head_gradients(features: Tensor, logits: Logits, labels: Labels, scale: float = 1.0) -> HeadGradients:
    """The gradients of the cross-entropy at images.

    Args:
        features: The input of the last layer, (N, D).
        logits: Float (N, classes).
        labels: The labels that the loss is of, int64 (N,).
        scale: What the layer's outputs are multiplied by to give the logits.
    """
    probabilities = logits.double().softmax(1)
    errors = probabilities - torch.nn.functional.one_hot(labels, logits.shape[1])
    return HeadGradients(errors * scale, features.double())


def tracin(
    tests: list[HeadGradients], trains: list[HeadGradients], rates: list[float], *, relative: bool = False
) -> Tensor:
    """The influence of training images on the losses at test images, (tests, trains).

    Args:
        tests: The gradients at test images, one a checkpoint.
        trains: Those at training images.
        rates: The learning rate at each checkpoint.
        relative: Divide by the length of the training image's gradient over all checkpoints (RelatIF).
    """
    whole = sum(
        (rate * test.products(train) for test, train, rate in zip(tests, trains, rates, strict=True)),
        start=torch.zeros((), dtype=torch.float64),
    )
    if relative:
        squares = sum(
            (rate * train.squares for train, rate in zip(trains, rates, strict=True)), start=whole.new_zeros(())
        )
        whole = whole / squares.clamp(min=1e-300).sqrt()
    return whole


def nearest_rows(queries: Tensor, pool: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The nearest rows of a pool by Euclidean distance, exactly, in chunks.

    Args:
        queries: Float (N, D).
        pool: Float (M, D).
        count: How many of each, at most M.

    Returns:
        Their positions, int64 (N, count), nearest first, and their distances, (N, count).
    """
    parts = []
    for rows in torch.split(queries.double(), max(1, _AT_ONCE // max(1, len(pool)))):
        distances = torch.cdist(rows, pool.double(), compute_mode="donot_use_mm_for_euclid_dist")
        parts.append(distances.topk(min(count, len(pool)), dim=1, largest=False, sorted=True))
    return torch.cat([part.indices for part in parts]), torch.cat([part.values for part in parts])


def refitted_head(
    features: Array, labels: Array, classes: int, start: Array | None = None, *, decay: float, steps: int = 200
) -> NDArray[np.float64]:
    """The last layer fitted anew: weights and bias that minimise the mean cross-entropy and decay |W|^2 / 2.

    Args:
        features: Float64 (N, D).
        labels: Int64 (N,).
        classes: The number of classes.
        start: Where to begin, (classes, D + 1); None for zeros.
        decay: Weight of the squared length of the weights, without the bias.
        steps: Steps of L-BFGS at most.

    Returns:
        Float64 (classes, D + 1), the bias last.
    """
    from scipy.optimize import minimize
    from scipy.special import log_softmax

    rows = np.concatenate([features, np.ones((len(features), 1))], 1)
    wanted = np.eye(classes)[labels]
    decayed = np.append(np.full(rows.shape[1] - 1, decay), 0.0)

    def loss(flat: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        weights = flat.reshape(classes, -1)
        logs = log_softmax(rows @ weights.T, axis=1)
        value = -(wanted * logs).sum() / len(rows) + (decayed * weights**2).sum() / 2
        gradient = (np.exp(logs) - wanted).T @ rows / len(rows) + decayed * weights
        return float(value), gradient.ravel()

    begin = np.zeros((classes, rows.shape[1])) if start is None else start
    fitted = minimize(loss, begin.ravel(), jac=True, method="L-BFGS-B", options={"maxiter": steps, "gtol": 1e-5})
    return np.asarray(fitted.x, np.float64).reshape(classes, -1)
