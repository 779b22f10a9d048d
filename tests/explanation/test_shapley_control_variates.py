"""The closed forms, against enumeration; the estimate, against games whose Shapley values are known."""

from __future__ import annotations

from itertools import combinations

import torch
from torch import Tensor

from audit.core.seeding import Generators
from audit.explanation.shapley_control_variates import adjusted_values, nearness, paired, triples
from audit.explanation.shapley_exact import every_coalition, shapley_from_table
from audit.explanation.shapley_kernel import constrained_regression, paired_masks

GRID = (torch.arange(28) * 6 // 28)[:, None] * 6 + (torch.arange(28) * 6 // 28)[None]
"""36 segments of 28x28 pixels."""


Game = tuple[Tensor, list[tuple[int, ...]], Tensor]
"""Worths of single segments, float64 (36,); triples of segments; and their worths."""


def sampled(size: int, budget: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    return paired_masks(size, budget, Generators.of(["image"], seed=seed, purpose="test", device="cpu"))


def neighbours_game(seed: int, strength: float) -> Game:
    """Worths of single segments, and of triples in a row or column of the grid."""
    generator = torch.Generator().manual_seed(seed)
    rows = [(r * 6 + c, r * 6 + c + 1, r * 6 + c + 2) for r in range(6) for c in range(4)]
    columns = [(r * 6 + c, r * 6 + c + 6, r * 6 + c + 12) for r in range(4) for c in range(6)]
    members = rows + columns
    single = torch.randn(36, generator=generator, dtype=torch.float64)
    return single, members, strength * torch.randn(len(members), generator=generator, dtype=torch.float64)


def played(masks: Tensor, game: Game) -> Tensor:
    single, members, worth = game
    together = torch.stack([masks[:, list(triple)].all(1) for triple in members], 1).double()
    return masks.double() @ single + together @ worth


def shapley_of(game: Game) -> Tensor:
    values, members, worth = game[0].clone(), game[1], game[2]
    for triple, amount in zip(members, worth, strict=True):
        values[list(triple)] += amount / 3
    return values


def estimate(game: Game, budget: int, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """Adjusted values, their errors, and the values of the regression alone."""
    masks, weights = sampled(36, budget, seed)
    outputs, total = played(masks, game), float(played(torch.ones(1, 36).bool(), game))
    values, deviations = adjusted_values(masks, outputs, weights, total, nearness(GRID))
    return values, deviations.square().sum(0).sqrt(), constrained_regression(masks.double(), outputs, weights, total)[0]


def test_the_kernel_sums_products_over_all_triples() -> None:
    generator = torch.Generator().manual_seed(3)
    signs = torch.randint(0, 2, (9, 6), generator=generator).double() * 2 - 1
    windows = torch.rand(4, 6, generator=generator, dtype=torch.float64)
    by_hand = torch.zeros(9, 9, dtype=torch.float64)
    for window in windows:
        for triple in combinations(range(6), 3):
            product = signs[:, triple].prod(1) * window[list(triple)].prod().sqrt()
            by_hand += torch.outer(product, product)
    kernel, _ = triples(signs, windows)
    torch.testing.assert_close(kernel, by_hand / by_hand.diagonal().mean())


def test_a_kernel_columns_shapley_values_are_those_of_enumeration() -> None:
    generator = torch.Generator().manual_seed(4)
    windows = torch.rand(3, 5, generator=generator, dtype=torch.float64)
    signs = every_coalition(5).double() * 2 - 1
    kernel, values = triples(signs, windows)
    for column in (0, 7, 19):
        torch.testing.assert_close(values[:, column], shapley_from_table(every_coalition(5), kernel[:, column]))


def test_windows_are_widest_where_segments_are_near() -> None:
    near = nearness(GRID)
    assert torch.equal(near, near.T) and bool((near.diagonal() == 1).all())
    assert near[0, 1] > near[0, 7] > near[0, 2] > near[0, 35]


def test_pairs_are_found_wherever_they_stand() -> None:
    masks, weights = sampled(14, 200)
    outputs = torch.randn(len(masks), dtype=torch.float64)
    shuffled = torch.randperm(len(masks), generator=torch.Generator().manual_seed(0))
    first, again = (paired(masks[o], outputs[o], weights[o]) for o in (torch.arange(len(masks)), shuffled))
    assert all(torch.equal(one, other) for one, other in zip(first, again, strict=True))
    assert bool((first.signs[:, 0] == 1).all())


def test_a_linear_game_is_solved_exactly() -> None:
    game = neighbours_game(1, 0.0)
    values, errors, _ = estimate(game, 300, 0)
    torch.testing.assert_close(values, shapley_of(game), rtol=0, atol=1e-9)
    assert float(errors.max()) < 1e-8


def test_what_neighbours_do_together_leaves_the_noise() -> None:
    game = neighbours_game(2, 1.0)
    truth, ours, plain = shapley_of(game), [], []
    for seed in range(4):
        values, _, alone = estimate(game, 700, seed)
        ours.append(float((values - truth).norm()))
        plain.append(float((alone - truth).norm()))
        assert abs(float(values.sum() - truth.sum())) < 1e-9, "efficiency"
    assert sum(ours) < 0.75 * sum(plain)


def test_errors_cover_the_truth() -> None:
    game = neighbours_game(5, 1.0)
    scores = []
    for seed in range(6):
        values, errors, _ = estimate(game, 700, seed)
        scores.append((values - shapley_of(game)) / errors)
    spread = float(torch.cat(scores).square().mean().sqrt())
    assert 0.4 < spread < 1.2, f"root mean square of (value - truth) / error is {spread}"


def test_noise_without_neighbours_costs_nothing() -> None:
    """Outputs drawn at random: no triples can be learnt, and leaving out says so."""
    size = 13
    table = torch.randn(2**size, generator=torch.Generator().manual_seed(6), dtype=torch.float64)
    truth = shapley_from_table(every_coalition(size), table)
    grid = torch.arange(size).repeat_interleave(4)[None].expand(8, -1)
    place = 2 ** torch.arange(size)
    ours, plain = 0.0, 0.0
    for seed in range(5):
        masks, weights = sampled(size, 900, seed)
        outputs = table[_row(masks, size, place)] - table[0]
        total = float(table[-1] - table[0])
        ours += float((adjusted_values(masks, outputs, weights, total, nearness(grid))[0] - truth).norm())
        plain += float((constrained_regression(masks.double(), outputs, weights, total)[0] - truth).norm())
    assert ours < 1.1 * plain


def _row(masks: Tensor, size: int, place: Tensor) -> Tensor:
    """Where each mask stands in the table of `every_coalition`."""
    codes = every_coalition(size).long() @ place
    where = torch.empty(2**size, dtype=torch.int64)
    where[codes] = torch.arange(2**size)
    return where[masks.long() @ place]
