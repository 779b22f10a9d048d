"""Coefficients through pairs of lines, against the same written with `clamp`, and their derivatives."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from audit.bounds.bends import bent, bent_into_tiles


def _numbers(*shape: int, seed: int) -> Tensor:
    values = torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return values.requires_grad_()


def _by_clamps(a: Tensor, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
    return a.clamp(min=0) * low + a.clamp(max=0) * high, a.clamp(max=0)


@pytest.mark.parametrize("functions", [1, 3])
def test_bent_is_its_definition_and_so_are_its_derivatives(functions: int) -> None:
    a, low, high = _numbers(2, 3, 4, 5, seed=0), _numbers(2, functions, 4, 5, seed=1), _numbers(2, 1, 4, 5, seed=2)
    torch.testing.assert_close(bent(a, low, high), _by_clamps(a, low, high), rtol=0, atol=0)
    assert torch.autograd.gradcheck(bent, (a, low, high))


@pytest.mark.parametrize(("tiles", "source"), [((2, 2), (2, 4, 6)), ((2, 3), (2, 5, 9)), ((3, 1), (2, 7, 3))])
def test_tiles_are_windows_side_by_side_and_what_is_left_over_has_no_coefficients(
    tiles: tuple[int, int], source: tuple[int, ...]
) -> None:
    h, w, k = source[1] // tiles[0], source[2] // tiles[1], tiles[0] * tiles[1]
    a = _numbers(2, 3, source[0], h, w, seed=0)
    low, high = _numbers(2, 3, k, source[0], h, w, seed=1), _numbers(2, 1, k, source[0], h, w, seed=2)

    def folded() -> Tensor:
        weighted, _ = _by_clamps(a[:, :, None], low, high)
        columns = weighted.transpose(2, 3).reshape(6, source[0] * k, h * w)
        whole = (h * tiles[0], w * tiles[1])
        rest = (0, source[2] - whole[1], 0, source[1] - whole[0])
        return functional.pad(functional.fold(columns, whole, tiles, stride=tiles), rest).view(2, 3, *source)

    back, below = bent_into_tiles(a, low, high, tiles, source)
    torch.testing.assert_close(back, folded(), rtol=0, atol=0)
    torch.testing.assert_close(below, a.clamp(max=0), rtol=0, atol=0)
    assert torch.autograd.gradcheck(lambda *x: bent_into_tiles(*x, tiles, source), (a, low, high))
