"""Non-negative factors: planted ones are found, no plain solver does better, coefficients are the exact ones."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import nnls

from audit.explanation.concept_factorisation import concept_coefficients, crops_of, factorise


def multiplicative_updates(rows: NDArray[np.float64], count: int, seed: int) -> float:
    """The slow twin: Lee and Seung's updates from a random start; the error they end with."""
    draw = np.random.default_rng(seed)
    weights, directions = draw.random((len(rows), count)), draw.random((count, rows.shape[1]))
    for _ in range(3000):
        directions *= weights.T @ rows / (weights.T @ weights @ directions + 1e-12)
        weights *= rows @ directions.T / (weights @ directions @ directions.T + 1e-12)
    return float(np.linalg.norm(rows - weights @ directions))


def test_no_plain_solver_comes_nearer_to_the_activations() -> None:
    rows = np.random.default_rng(0).gamma(0.5, size=(60, 12)).astype(np.float32)
    weights, directions = factorise(rows, 4)
    assert (weights >= 0).all() and (directions >= 0).all()
    assert np.allclose(np.linalg.norm(directions, axis=1), 1)
    error = float(np.linalg.norm(rows - weights @ directions))
    assert error <= 1.01 * min(multiplicative_updates(rows.astype(np.float64), 4, seed) for seed in range(3))


def test_planted_directions_are_found() -> None:
    draw = np.random.default_rng(1)
    planted = np.eye(3, 9) + np.eye(3, 9, 5) * 0.5
    mixture = draw.gamma(0.3, size=(200, 3))
    _, directions = factorise((mixture @ planted).astype(np.float32), 3)
    cosines = directions @ (planted / np.linalg.norm(planted, axis=1)[:, None]).T
    assert (cosines.max(0) > 0.99).all() and set(cosines.argmax(0)) == {0, 1, 2}


def test_fewer_directions_where_there_are_fewer_crops_and_none_in_darkness() -> None:
    assert factorise(np.ones((2, 9), np.float32), 5)[1].shape == (2, 9)
    assert not factorise(np.zeros((6, 4), np.float32), 2)[0].any()


def test_coefficients_are_those_of_the_exact_solver() -> None:
    draw = np.random.default_rng(2)
    directions, rows = draw.gamma(0.5, size=(5, 16)), draw.gamma(0.5, size=(40, 16))
    expected = np.stack([nnls(directions.T, row)[0] for row in rows])
    coefficients = concept_coefficients(torch.from_numpy(rows), torch.from_numpy(directions))
    assert np.allclose(coefficients.numpy(), expected, atol=1e-4)


def test_crops_are_the_parts_they_say() -> None:
    images = torch.rand(3, 1, 8, 8)
    crops, places = crops_of(images, 0.5, 2)
    assert crops.shape == (12, 1, 8, 8) and places[5].tolist() == [1, 0, 4]
    image, top, left = places[5]
    part = images[image, :, top : top + 4, left : left + 4]
    assert torch.allclose(crops[5].mean(), part.mean(), atol=0.02)
    assert torch.equal(crops_of(images, 1.0, 1)[0], images)
