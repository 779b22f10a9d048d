"""Total sensitivity of a function to each of its inputs: Sobol indices by Jansen's estimator.

S_T,i = E[Var(f | all inputs but i)] / Var(f): the share of the function's variance that is lost when every input but i
is known, interactions included. With two designs A and B and A with column i taken from B, it is estimated by
sum_j (f(A)_j - f(A_B^i)_j)^2 / (2 N Var(f)) (Jansen 1999; Saltelli et al. 2010, table 2, f).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def jansen_design(inputs: int, points: int, seed: int = 0) -> NDArray[np.float64]:
    """The points in [0, 1] at which the function is asked: A, then A with each column in turn from B.

    A and B are the two halves of one scrambled Sobol sequence.

    Args:
        inputs: The number r of inputs.
        points: The number N of points of a design, a power of two.
        seed: Of the scrambling.

    Returns:
        Float64 (N (r + 1), r).
    """
    from scipy.stats import qmc

    drawn = qmc.Sobol(2 * inputs, scramble=True, rng=np.random.default_rng(seed)).random(points)
    first, second = drawn[:, :inputs], drawn[:, inputs:]
    exchanged = np.repeat(first[None], inputs, 0)
    for index in range(inputs):
        exchanged[index, :, index] = second[:, index]
    return np.concatenate([first[None], exchanged]).reshape(-1, inputs)


def total_sensitivity(answers: NDArray[np.float64], inputs: int) -> NDArray[np.float64]:
    """The total Sobol index of each input; 0 of a function that is constant.

    Args:
        answers: Of the function at the points of `jansen_design`, float (N (r + 1), ...).
        inputs: The number r of inputs.

    Returns:
        Float64 (r, ...).
    """
    values = np.asarray(answers, np.float64)
    values = values.reshape(inputs + 1, -1, *values.shape[1:])
    variance = values[0].var(axis=0, ddof=1)
    halves = np.square(values[1:] - values[0]).mean(axis=1) / 2
    return np.where(variance > 0, halves / np.where(variance > 0, variance, 1), 0.0)
