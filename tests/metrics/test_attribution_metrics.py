"""Each metric of maps against a closed form, a library, or itself written slowly."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr
from torch import Tensor, nn

from audit.core.seeding import Generators
from audit.core.types import Batch
from audit.metrics.agreement import agreement_matrix, rank_agreement, seed_stability, top_overlap
from audit.metrics.infidelity import infidelity
from audit.metrics.localisation import pointing_game, relevance_mass, relevance_rank
from audit.metrics.randomisation import bottom_up, layers_with_weights, randomised
from audit.metrics.road import impute, road
from audit.metrics.sensitivity import max_sensitivity
from audit.metrics.sparseness import complexity, sparseness
from audit.models.under_test import ModelUnderTest


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def generators(count: int) -> Generators:
    return Generators.of([str(i) for i in range(count)], seed=0, purpose="test", device="cpu")


# Sparseness


def test_sparseness_is_zero_for_even_and_nearly_one_for_a_point() -> None:
    point = torch.zeros(1, 1, 4, 5)
    point[0, 0, 1, 2] = -3
    assert sparseness(torch.ones(1, 2, 4, 5)).item() == pytest.approx(0)
    assert sparseness(point).item() == pytest.approx(1 - 1 / 20)
    assert sparseness(torch.zeros(1, 1, 4, 5)).isnan().item()


def test_sparseness_is_the_mean_difference_written_plainly() -> None:
    maps = noise(3, 2, 4, 5) - 0.5
    for one, found in zip(maps, sparseness(maps), strict=True):
        values = one.abs().sum(0).flatten().double()
        pairs = (values[:, None] - values[None]).abs().mean() / (2 * values.mean())
        assert found.item() == pytest.approx(pairs.item(), abs=1e-6)


def test_complexity_is_zero_for_a_constant_and_log_for_an_even_histogram() -> None:
    assert complexity(torch.full((1, 1, 4, 4), 0.3)).item() == 0
    even = torch.linspace(0, 1, 16).view(1, 1, 4, 4)
    assert complexity(even, bins=16).item() == pytest.approx(4, abs=0.2)


# Agreement


def test_rank_agreement_is_scipys_with_ties() -> None:
    one, other = (noise(4, 2, 5, 5) * 6).floor(), (noise(4, 2, 5, 5, seed=1) * 4).floor()
    for row, found in enumerate(rank_agreement(one, other)):
        expected = spearmanr(one[row].sum(0).flatten(), other[row].sum(0).flatten()).statistic
        assert found.item() == pytest.approx(expected, abs=1e-12)
    assert rank_agreement(one, -one).tolist() == pytest.approx([-1] * 4)
    assert rank_agreement(one, torch.zeros_like(one)).isnan().all()


def test_matrix_is_symmetric_with_ones_and_leaves_constant_maps_out() -> None:
    flat = noise(3, 1, 4, 4)
    flat[1] = 0
    maps = {"a": noise(3, 1, 4, 4, seed=2), "b": noise(3, 3, 4, 4, seed=3), "flat": flat}
    matrix = agreement_matrix(maps)
    assert torch.equal(matrix, matrix.T)
    assert matrix.diagonal().tolist() == [1, 1, 1]
    expected = rank_agreement(maps["a"], flat)[[0, 2]].mean()
    assert matrix[0, 2].item() == pytest.approx(expected.item())


def test_top_overlap_counts_shared_pixels() -> None:
    one, other = torch.zeros(1, 1, 2, 5), torch.zeros(1, 1, 2, 5)
    one[0, 0, 0, :2] = 1
    other[0, 0, 0, 1:3] = 1
    assert top_overlap(one, other, share=0.2).item() == pytest.approx(1 / 3)
    assert top_overlap(one, one, share=0.2).item() == 1


def test_seed_stability_is_the_mean_over_pairs() -> None:
    maps = noise(3, 2, 1, 4, 4)
    pairs = [rank_agreement(maps[i], maps[j]) for i, j in itertools.combinations(range(3), 2)]
    assert torch.allclose(seed_stability(maps), torch.stack(pairs).mean(0))
    assert torch.allclose(seed_stability(maps[:1].repeat(3, 1, 1, 1, 1)), torch.ones(2, dtype=torch.float64))


# Localisation


def test_localisation_on_a_map_made_by_hand() -> None:
    maps, masks = torch.zeros(1, 1, 3, 3), torch.zeros(1, 3, 3, dtype=torch.bool)
    masks[0, 0, :2] = True
    maps[0, 0, 0, 0], maps[0, 0, 2, 2], maps[0, 0, 1, 1], maps[0, 0, 0, 1] = 3, 1, -5, 0
    assert relevance_mass(maps, masks).item() == pytest.approx(0.75)
    assert relevance_rank(maps, masks).item() == pytest.approx(0.5)
    assert pointing_game(maps, masks).item() == 1
    assert pointing_game(-maps, masks).item() == 0
    assert relevance_mass(-maps.clamp(min=0), masks).isnan().item()


# Infidelity and sensitivity


def test_true_gradient_of_a_linear_model_foretells_everything(linear_model: ModelUnderTest) -> None:
    images = noise(3, 1, 6, 6) * 0.5 + 0.25
    weight = linear_model.net[1].weight[1].view(1, 1, 6, 6).expand(3, 1, 6, 6)  # type: ignore[index, union-attr]
    targets = torch.tensor([1, 1, 1])

    def of(maps: Tensor) -> Tensor:
        return infidelity(linear_model, images, maps, targets=targets, generators=generators(3), samples=200)

    assert of(weight).max().item() < 1e-6
    assert of(-7 * weight).max().item() < 1e-6
    assert of(noise(3, 1, 6, 6) - 0.5).min().item() > 0.5
    assert of(torch.zeros(3, 1, 6, 6)).tolist() == [1, 1, 1]


def test_infidelity_is_the_regressions_unexplained_share(cnn_model: ModelUnderTest, cnn_batch: Batch) -> None:
    images, targets, maps = cnn_batch.images[:2], cnn_batch.labels[:2], noise(2, 1, 12, 12)
    cnn_model.layout.batch_size = 7
    found = infidelity(cnn_model, images, maps, targets=targets, generators=generators(2), samples=20)
    for row in range(2):
        change, foretold = [], []
        for sample in range(20):
            drawn = generators(2).fork(sample).normal(1, 12, 12)[row]
            moved = (images[row] + 0.2 * drawn).clamp(0, 1)
            change.append(float(cnn_model.logits(torch.stack([moved, images[row]]))[:, targets[row]].diff().neg()))
            foretold.append(float(((moved - images[row]) * maps[row]).sum()))
        y, x = np.array(change), np.array(foretold)
        slope = (x @ y) / (x @ x)
        assert found[row].item() == pytest.approx(((y - slope * x) ** 2).sum() / (y @ y), abs=1e-4)


def test_sensitivity_of_a_constant_map_is_zero_and_of_a_scaled_image_is_bounded() -> None:
    images = noise(3, 1, 5, 5) * 0.5 + 0.25
    constant = max_sensitivity(torch.ones_like, images, torch.ones_like(images), generators=generators(3))
    assert constant.tolist() == [0, 0, 0]
    moved = max_sensitivity(lambda x: 3 * x, images, 3 * images, generators=generators(3), radius=0.02)
    bound = 0.02 * 5 / images.flatten(1).norm(dim=1)
    assert bool((moved <= bound).all()) and bool((moved > 0.3 * bound).all())
    empty = max_sensitivity(torch.zeros_like, images, torch.zeros_like(images), generators=generators(3))
    assert bool(empty.isnan().all())


def test_sensitivity_stays_in_the_image_range() -> None:
    seen: list[Tensor] = []

    def explain(images: Tensor) -> Tensor:
        seen.append(images)
        return images

    edge = torch.cat([torch.zeros(1, 1, 4, 4), torch.ones(1, 1, 4, 4)])
    max_sensitivity(explain, edge, edge, generators=generators(2), samples=3)
    assert len(seen) == 3
    assert all(0 <= float(one.min()) and float(one.max()) <= 1 for one in seen)


# ROAD


def test_imputation_repeats_a_ramp_and_leaves_the_rest() -> None:
    rows, columns = torch.meshgrid(torch.arange(9.0), torch.arange(11.0), indexing="ij")
    ramp = torch.stack([0.02 * rows + 0.05 * columns, 0.6 - 0.03 * rows]).unsqueeze(0)
    hole = torch.zeros(1, 9, 11, dtype=torch.bool)
    hole[0, 3:6, 2:8] = True
    filled = impute(torch.where(hole[:, None], 0.0, ramp), hole)
    assert torch.allclose(filled, ramp, atol=1e-6)
    assert torch.equal(impute(ramp, torch.zeros_like(hole)), ramp)
    assert torch.allclose(impute(ramp, torch.ones_like(hole)), ramp.mean((2, 3), keepdim=True).expand_as(ramp))


def test_every_removed_pixel_is_its_neighbours_weighted_mean() -> None:
    image, hole = noise(1, 1, 6, 7), noise(1, 6, 7, seed=4) < 0.6
    filled = impute(image, hole)[0, 0].double()
    for row, column in hole[0].nonzero().tolist():
        total = weights = 0.0
        for down, right in itertools.product((-1, 0, 1), repeat=2):
            if (down or right) and 0 <= row + down < 6 and 0 <= column + right < 7:
                weight = 1 / 12 if down and right else 1 / 6
                total += weight * float(filled[row + down, column + right])
                weights += weight
        assert float(filled[row, column]) == pytest.approx(total / weights, abs=1e-5)


class Block(nn.Module):
    """Logit 1 is the mean of the 2x2 block at (2, 2)."""

    def forward(self, images: Tensor) -> Tensor:
        block = images[:, 0, 2:4, 2:4].mean((1, 2))
        return torch.stack([torch.zeros_like(block), block], 1)


def test_road_falls_when_the_block_that_decides_goes_first_and_stays_when_it_goes_last() -> None:
    model = ModelUnderTest(Block(), classes=("off", "on"), input_shape=(1, 6, 6), device="cpu")
    images = torch.full((2, 1, 6, 6), 0.1)
    images[:, 0, 2:4, 2:4] = 1
    block = (images[:, 0] > 0.5).flatten(1)
    first = block.float().argsort(dim=1, descending=True, stable=True)

    def of(order: Tensor) -> Tensor:
        return road(
            model, images, order, targets=torch.tensor([1, 1]), generators=generators(2), output="logit", noise=0.0
        )

    assert of(first).shape == (2, 7)
    assert torch.allclose(of(first)[:, 1:], torch.tensor(0.1), atol=1e-5)
    assert torch.allclose(of(first.flip(1))[:, :6], torch.tensor(1.0))


# Randomisation


def test_randomised_twin_differs_only_where_asked_and_keeps_each_spread(cnn_model: ModelUnderTest) -> None:
    layers = layers_with_weights(cnn_model.net)
    assert layers == ("0", "3", "6")
    twin = randomised(cnn_model, layers[:2], seed=0)
    before, after = cnn_model.net.state_dict(), twin.net.state_dict()
    for name in before:
        changed = name.split(".")[0] in layers[:2]
        assert torch.equal(before[name], after[name]) != changed
    assert float(after["3.weight"].std()) == pytest.approx(float(before["3.weight"].std()), rel=0.15)
    with cnn_model.count() as spent:
        twin.logits(torch.rand(5, 1, 12, 12))
    assert spent.forwards == 5
    again = randomised(cnn_model, layers[:2], seed=0).net.state_dict()
    assert all(torch.equal(after[name], again[name]) for name in after)


def test_bottom_up_ends_with_everything_randomised(cnn_model: ModelUnderTest, cnn_batch: Batch) -> None:
    stages = list(bottom_up(cnn_model, lambda model: model.logits(cnn_batch.images)[:, :, None, None], seed=1))
    assert [name for name, _ in stages] == ["0", "3", "6"]
    whole = randomised(cnn_model, ("0", "3", "6"), seed=1).logits(cnn_batch.images)
    assert torch.equal(stages[-1][1][:, :, 0, 0], whole)
    assert not torch.allclose(whole, cnn_model.logits(cnn_batch.images), atol=0.01)
