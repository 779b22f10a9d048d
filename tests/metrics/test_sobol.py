"""Total Sobol indices against closed forms."""

from __future__ import annotations

import numpy as np
import pytest

from audit.metrics.sobol import jansen_design, total_sensitivity


def test_of_a_linear_function_they_are_the_shares_of_its_squared_weights() -> None:
    weights = np.array([3.0, 1.0, 0.0, -2.0])
    points = jansen_design(4, 4096)
    indices = total_sensitivity(points @ weights, 4)
    assert indices == pytest.approx(weights**2 / (weights**2).sum(), abs=5e-3)
    assert indices[2] == 0


def test_of_ishigamis_function_they_are_the_known_ones() -> None:
    """f = sin x + 7 sin^2 y + 0.1 z^4 sin x on [-pi, pi]: .5576, .4424, .2437 (Saltelli et al. 2008, table 4.1)."""
    points = 2 * np.pi * (jansen_design(3, 8192) - 0.5)
    x, y, z = points.T
    indices = total_sensitivity(np.sin(x) + 7 * np.sin(y) ** 2 + 0.1 * z**4 * np.sin(x), 3)
    assert indices == pytest.approx([0.5576, 0.4424, 0.2437], abs=0.01)


def test_several_functions_at_once_are_each_by_itself_and_a_constant_has_none() -> None:
    points = jansen_design(2, 64)
    answers = np.stack([points[:, 0], points[:, 1] * points[:, 0], np.ones(len(points))], 1)
    together = total_sensitivity(answers, 2)
    assert together.shape == (2, 3) and (together[:, 2] == 0).all()
    assert together[:, 1] == pytest.approx(total_sensitivity(answers[:, 1], 2))
