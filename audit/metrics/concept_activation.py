"""Whether a class is sensitive to a concept: testing with concept activation vectors (TCAV, arXiv:1711.11279).

A concept's vector v is the direction in which a linear classifier parts activations of its examples from those of
random ones. The score of a class is the share of its images on which moving along v raises the class's logit:
|{x : grad h_k(f(x)) . v > 0}| / n (TCAV, equation 2).

The score of a random concept is near 0 or near 1 as easily as a real one's, and keeps to its side against every random
set, so that a t-test of scores, as is usual, passes random concepts. What is tested instead is how far the examples lie
along the gradient of the class, against random sets of as many examples (`draw_p`): a random concept is one more draw
of them, so that it passes as often as the level says and no more. It may lie on either side.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtr

from audit.core.evidence import Array

_RIDGE = 0.01
"""Weight of the squared length of the vector, as a share of the mean squared activation."""


def concept_vector(concept: Array, random: Array) -> NDArray[np.float64]:
    """The direction that parts a concept's examples from random ones, of length 1, pointing towards the concept.

    The linear classifier is a ridge regression on +1 and -1, both sides weighing the same.

    Args:
        concept: Activations of the concept's examples, float (n, K).
        random: Activations of random examples, float (m, K).

    Returns:
        Float64 (K,).
    """
    rows = np.concatenate([concept, random]).astype(np.float64)
    sides = np.concatenate([np.ones(len(concept)), -np.ones(len(random))])
    weights = np.concatenate([np.full(len(concept), 0.5 / len(concept)), np.full(len(random), 0.5 / len(random))])
    centred = rows - weights @ rows
    root = np.sqrt(weights)[:, None]
    scaled = root * centred
    ridge = _RIDGE * float(np.square(scaled).sum()) or 1.0
    # v = S' (S S' + ridge)^-1 y, the dual form: a system of as many equations as there are examples.
    solved = np.linalg.solve(scaled @ scaled.T + ridge * np.eye(len(rows)), root[:, 0] * sides)
    vector: NDArray[np.float64] = scaled.T @ solved
    length = float(np.linalg.norm(vector))
    return vector / length if length > 0 else vector


def tcav_score(gradients: Array, vector: Array) -> float:
    """The share of images whose output rises along a vector.

    Args:
        gradients: Of the output to the activations, float (N, K).
        vector: Float (K,).
    """
    return float((np.asarray(gradients, np.float64) @ np.asarray(vector, np.float64) > 0).mean())


def draw_p(value: float, controls: Sequence[float]) -> float:
    """The p-value, on two sides, that a value is one more draw of what some controls are draws of.

    By the t-distribution of a prediction: (value - mean) / (s sqrt(1 + 1/R)) with R - 1 degrees of freedom.

    Args:
        value: Such as how far a concept's examples lie along the gradient.
        controls: The same of R random sets of as many examples.
    """
    others = np.asarray(controls, np.float64)
    spread = float(others.std(ddof=1)) * math.sqrt(1 + 1 / len(others))
    difference = abs(value - float(others.mean()))
    if not spread > 0:
        return 1.0 if difference == 0 else 0.0
    return float(2 * stdtr(len(others) - 1, -difference / spread))
