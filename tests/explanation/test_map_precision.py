"""The error that is stated of a map, against maps whose limit is known; and sampling that stops at it."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from audit.core.seeding import Generators
from audit.core.types import Batch
from audit.explanation.lime_regression import lime_kernel_weights, weighted_ridge
from audit.explanation.mask_reuse import explain_many, sum_by_pair
from audit.explanation.precision import MapEstimate, looks_at, order_holds, sample_until_precise
from audit.explanation.run import AttributionResult, explain_images
from audit.explanation.shapley_exact import every_coalition, shapley_from_table
from audit.explanation.shapley_kernel import _values, paired_masks
from audit.models.under_test import ModelUnderTest

SEGMENTS = 10
COLUMNS = (torch.arange(12)[:, None] // 6 * 5 + (torch.arange(12)[None] * 5 // 12)).contiguous()
"""Ten segments of 12x12 pixels, two rows of five."""
SAMPLING: dict[str, dict[str, Any]] = {
    "lime": {"segments": COLUMNS, "samples": 500},
    "shap": {"segments": COLUMNS, "samples": 500, "algorithm": "kernel"},
    "rise": {"over": "segments", "segments": COLUMNS, "samples": 800},
    "expected-gradients": {},
    "smooth-grad": {"samples": 64},
    "integrated-gradients": {},
}
"""Methods that stop at a precision, so that they have something to stop at."""


def games(count: int) -> tuple[Tensor, Tensor]:
    """The output of small nets under every coalition of ten players, (count, 1024), and their Shapley values."""
    masks, tables = every_coalition(SEGMENTS), []
    for number in range(count):
        generator = torch.Generator().manual_seed(number)
        shown = masks.double()
        for width in (16, 16):
            shown = (shown @ torch.randn(shown.shape[1], width, generator=generator, dtype=torch.float64)).relu()
            shown = shown / shown.std()
        tables.append(shown @ torch.randn(shown.shape[1], generator=generator, dtype=torch.float64))
    return torch.stack(tables), torch.stack([shapley_from_table(masks, table) for table in tables])


def off(values: Tensor, truth: Tensor) -> float:
    return float((values - truth).norm() / truth.norm())


@pytest.mark.parametrize("dimensions", [1, 4, 40])
def test_no_look_finds_the_error_exceeded_in_more_than_one_run_of_twenty(dimensions: int) -> None:
    """Means of skewed numbers, looked at six times: the level is shared among the looks, and taken whole it is not."""
    looks, runs, generator = [64, 84, 110, 143, 186, 242], 400, torch.Generator().manual_seed(dimensions)
    missed, missed_alone = 0, 0
    for _ in range(runs):
        noise = torch.empty(looks[-1], dimensions, dtype=torch.float64).exponential_(generator=generator) - 1
        draws = 3 + noise * torch.linspace(0.2, 2, dimensions)
        beyond, beyond_alone = False, False
        for count in looks:
            mean = draws[:count].mean(0)
            estimate = MapEstimate(mean, (draws[:count] - mean) / (count * (count - 1)) ** 0.5)
            error = float((mean - 3).norm() / 3 / dimensions**0.5)
            beyond |= error > estimate.error(len(looks))
            beyond_alone |= error > float(estimate.standard_errors.norm() / mean.norm()) * 1.96 / dimensions**0.5
        missed, missed_alone = missed + beyond, missed_alone + beyond_alone
    assert missed <= 0.065 * runs
    assert dimensions > 1 or missed_alone > 0.1 * runs, "a plain interval looked at six times misses more"


def test_kernel_values_are_within_the_stated_error_where_sampling_stops() -> None:
    tables, truths = games(15)
    place = 2 ** torch.arange(SEGMENTS)
    runs, missed, naively, reached = 0, 0, 0, 0
    looks = looks_at(4 * SEGMENTS, 320, 0.25)
    for number, (table, truth) in enumerate(zip(tables, truths, strict=True)):
        for seed in range(4):
            generators = Generators.of([f"{number}/{seed}"], seed=0, purpose="t", device="cpu")

            def estimates(
                counts: Mapping[int, int], table: Tensor = table, generators: Generators = generators
            ) -> Mapping[int, MapEstimate]:
                masks, weights = paired_masks(SEGMENTS, counts[0] - 2, generators)
                outputs = torch.cat([table[:1], table[-1:], table[masks.long() @ place]])
                return {0: _values(masks, outputs, weights, COLUMNS).estimate}

            (judged,) = sample_until_precise([looks], 0.25, estimates)
            error = off(judged.values, truth)
            missed += error > judged.error
            naively += error > float(judged.standard_errors.norm() / judged.values.norm()) / 2
            reached += judged.reached
            assert not judged.reached or judged.error <= 0.25
            runs += 1
    assert missed <= 0.05 * runs
    assert 0.3 * runs < reached, "most do stop"
    assert naively > 0.05 * runs, "half the standard error is exceeded: the bound is not empty"


@pytest.fixture
def images(cnn_batch: Batch) -> Tensor:
    return cnn_batch.images[:4]


def explained(model: ModelUnderTest, images: Tensor, method: str, **options: Any) -> AttributionResult:
    return explain_images(model, images, method=method, **{**SAMPLING[method], **options})


def test_lime_is_within_the_stated_error_of_the_regression_on_every_mask(
    cnn_model: ModelUnderTest, images: Tensor
) -> None:
    masks = every_coalition(SEGMENTS)
    shared = explain_many(cnn_model, images, methods={"shap": {}}, segments=COLUMNS)
    weights = lime_kernel_weights(masks, 0.25)
    missed, runs = 0, 0
    truths = []
    for row in range(len(images)):
        outputs = shared.queue.scores(torch.full((len(masks),), row), masks).double()
        truths.append(weighted_ridge(masks, outputs, weights, ridge=len(masks) / 500).coefficients)
    for seed in range(12):
        found = explained(
            cnn_model, images, "lime", precision=0.3, seed=seed, targets=shared["shap"].targets, baseline="segment-mean"
        )
        for row, truth in enumerate(truths):
            values = torch.stack([found.attributions[row, 0][COLUMNS == k].mean() for k in range(SEGMENTS)]).double()
            missed, runs = missed + (off(values, truth) > float(found.quality["error"][row])), runs + 1
    assert missed <= 0.05 * runs


def test_rise_over_segments_is_within_the_stated_error_of_the_mean_over_every_mask(
    cnn_model: ModelUnderTest, images: Tensor
) -> None:
    masks = every_coalition(SEGMENTS)
    shared = explain_many(cnn_model, images, methods={"shap": {}}, segments=COLUMNS, baseline="mean")
    missed, runs = 0, 0
    for seed in range(10):
        found = explained(cnn_model, images, "rise", precision=0.4, seed=seed, targets=shared["shap"].targets)
        for row in range(len(images)):
            outputs = shared.queue.scores(torch.full((len(masks),), row), masks).double()
            truth = torch.stack([outputs[masks[:, k]].mean() for k in range(SEGMENTS)]) - outputs.mean()
            values = torch.stack([found.attributions[row, 0][COLUMNS == k].mean() for k in range(SEGMENTS)]).double()
            missed, runs = missed + (off(values, truth) > float(found.quality["error"][row])), runs + 1
    assert missed <= 0.05 * runs


class Powers(nn.Module):
    """Logit 1 is a sum of weighted powers of the pixels."""

    def __init__(self, power: int) -> None:
        super().__init__()
        self.power = power
        self.weight = nn.Parameter(torch.randn(1, 6, 6, generator=torch.Generator().manual_seed(3)))

    def forward(self, images: Tensor) -> Tensor:
        total = (self.weight * images**self.power).flatten(1).sum(1)
        return torch.stack([torch.zeros_like(total), total], 1)


def powers(power: int) -> tuple[ModelUnderTest, Tensor, Tensor]:
    model = ModelUnderTest(Powers(power), classes=("off", "on"), input_shape=(1, 6, 6), device="cpu")
    images = 0.4 + 0.2 * torch.rand(80, 1, 6, 6, generator=torch.Generator().manual_seed(4))
    return model, images, model.net.weight.detach()


@pytest.mark.parametrize("precision", [None, 0.25])
def test_smooth_grad_is_within_the_stated_error_of_its_expectation(precision: float | None) -> None:
    """E 3 w (x + noise)^2 is 3 w (x^2 + variance)."""
    model, images, weight = powers(3)
    options = {} if precision is None else {"precision": precision}
    found = explain_images(model, images, method="smooth-grad", targets=1, noise=0.5, **options)
    span = images.flatten(1).amax(1) - images.flatten(1).amin(1)
    truth = 3 * weight * (images**2 + (0.5 * span.view(-1, 1, 1, 1)) ** 2)
    errors = (found.attributions - truth).flatten(1).norm(dim=1) / truth.flatten(1).norm(dim=1)
    assert float((errors > found.quality["error"]).double().mean()) <= 0.05
    assert float((errors > found.quality["error"] / 3).double().mean()) > 0.2, "the bound is not empty"


@pytest.mark.parametrize(("count", "precision"), [(0, None), (0, 0.3), (5, None), (5, 0.1), (16, 0.2), (60, 0.4)])
def test_expected_gradients_are_within_the_stated_error_of_their_expectation(
    count: int, precision: float | None
) -> None:
    """Along a line from r to x the mean of 3 w z^2 (x - r) is w (x^3 - r^3)."""
    model, images, weight = powers(3)
    references = torch.rand(count, 1, 6, 6, generator=torch.Generator().manual_seed(5)) if count else None
    options = {} if precision is None else {"precision": precision}
    found = explain_images(
        model, images, method="expected-gradients", targets=1, references=references, baseline=0.2, **options
    )
    baseline = torch.full_like(images[:1], 0.2) if references is None else references
    truth = weight * (images**3 - (baseline**3).mean(0))
    errors = (found.attributions - truth).flatten(1).norm(dim=1) / truth.flatten(1).norm(dim=1)
    assert float((errors > found.quality["error"]).double().mean()) <= 0.05


def test_integrated_gradients_state_the_error_of_their_rule(cnn_model: ModelUnderTest, cnn_batch: Batch) -> None:
    images, targets = cnn_batch.images, cnn_batch.labels
    exact = explain_images(
        cnn_model, images, method="integrated-gradients", targets=targets, steps=512, max_steps=512
    ).attributions
    for precision in (0.2, 0.05):
        found = explain_images(cnn_model, images, method="integrated-gradients", targets=targets, precision=precision)
        errors = (found.attributions - exact).flatten(1).norm(dim=1) / exact.flatten(1).norm(dim=1)
        assert bool(found.quality["reached"].all()) and float(found.quality["error"].max()) <= precision
        assert float((errors > found.quality["error"]).double().mean()) <= 0.1
    plain = explain_images(cnn_model, images, method="integrated-gradients", targets=targets)
    assert found.passes.backwards < plain.passes.backwards


@pytest.mark.parametrize("method", SAMPLING)
def test_an_image_is_sampled_as_it_is_alone(method: str, cnn_model: ModelUnderTest, images: Tensor) -> None:
    together = explained(cnn_model, images, method, precision=0.25)
    cnn_model.layout.batch_size = 5
    for row in range(len(images)):
        alone = explained(cnn_model, images[row : row + 1], method, precision=0.25)
        assert alone.quality["samples"][0] == together.quality["samples"][row]
        assert torch.allclose(alone.attributions[0], together.attributions[row], atol=1e-5)
    again = explained(cnn_model, images, method, precision=0.25)
    for name, values in together.quality.items():
        assert torch.allclose(values.double(), again.quality[name].double(), atol=1e-6), name


@pytest.mark.parametrize("method", SAMPLING)
def test_a_coarser_precision_costs_less_and_says_what_it_reached(
    method: str, cnn_model: ModelUnderTest, images: Tensor
) -> None:
    coarse, fine, all_of_them = (
        explained(cnn_model, images, method, **asked) for asked in ({"precision": 0.5}, {"precision": 0.001}, {})
    )
    assert coarse.passes.forwards < fine.passes.forwards
    assert bool((coarse.quality["error"][coarse.quality["reached"] == 1] <= 0.5).all())
    assert bool((coarse.quality["reached"] == 1).any()) and not bool(fine.quality["reached"].any())
    assert "reached" not in all_of_them.quality and bool((all_of_them.quality["error"] > 0).all())
    if method != "integrated-gradients":
        assert torch.equal(fine.quality["samples"], all_of_them.quality["samples"])


def test_enumerated_values_and_known_masks_are_not_sampled(cnn_model: ModelUnderTest, images: Tensor) -> None:
    asked = {"shap": {"precision": 0.2, "algorithm": "exact"}, "lime": {"precision": 0.2}}
    shared = explain_many(cnn_model, images, methods=asked, segments=COLUMNS)
    assert shared["shap"].quality["error"].tolist() == [0.0] * 4 and bool(shared["shap"].quality["reached"].all())
    assert shared["lime"].passes.forwards == 0 and set(shared["lime"].quality["samples"].tolist()) == {1000.0}


def test_few_segments_are_sampled_to_a_precision_and_enumerated_where_none_is_asked(
    cnn_model: ModelUnderTest, images: Tensor
) -> None:
    exact = explain_images(cnn_model, images, method="shap", segments=COLUMNS)
    coarse = explain_images(cnn_model, images, method="shap", segments=COLUMNS, precision=0.3)
    finest = explain_images(cnn_model, images, method="shap", segments=COLUMNS, precision=1e-9)
    assert set(exact.quality["samples"].tolist()) == {1024.0}
    assert coarse.passes.forwards < 0.25 * exact.passes.forwards
    size = exact.attributions.flatten(1).norm(dim=1)
    off = (coarse.attributions - exact.attributions).flatten(1).norm(dim=1) / size
    assert bool((off <= coarse.quality["error"]).all()) and bool((coarse.quality["error"] <= 0.3).all())
    assert finest.quality["error"].tolist() == [0.0] * 4, "all masks there are"
    assert torch.allclose(finest.attributions, exact.attributions, atol=1e-5)
    few = torch.arange(12)[:, None].expand(12, 12) // 3
    assert set(
        explain_images(cnn_model, images, method="shap", segments=few, precision=0.3).quality["error"].tolist()
    ) == {0.0}


def test_lime_reuses_pairs_of_kernel_shap(cnn_model: ModelUnderTest, images: Tensor) -> None:
    segments = torch.arange(12)[:, None] // 2 * 6 + torch.arange(12)[None] // 2
    asked = {"precision": 0.02, "samples": 400}
    alone = explain_images(cnn_model, images, method="lime", segments=segments, **asked)
    shared = explain_many(cnn_model, images, methods={"shap": asked, "lime": asked}, segments=segments)
    assert shared["lime"].passes.forwards < 0.8 * alone.passes.forwards
    size = (shared["lime"].attributions - alone.attributions).flatten(1).norm(dim=1)
    allowed = (shared["lime"].quality["error"] + alone.quality["error"]) * alone.attributions.flatten(1).norm(dim=1)
    assert bool((size < allowed).all())


@pytest.mark.parametrize("method", ["lime", "shap", "rise", "expected-gradients", "smooth-grad"])
def test_a_map_to_compare_with_gets_as_many_samples(method: str, cnn_model: ModelUnderTest, images: Tensor) -> None:
    first = explained(cnn_model, images, method, precision=0.4)
    moved = explained(cnn_model, 1 - images, method, precision=0.4, counts=first.quality["samples"].long())
    assert torch.equal(moved.quality["samples"], first.quality["samples"])


@pytest.mark.parametrize("size", [9, 22, 29])
def test_masks_of_a_larger_budget_hold_those_of_a_smaller_one(size: int) -> None:
    generator = Generators.of(["one"], seed=0, purpose="t", device="cpu")
    smaller: set[bytes] = set()
    for budget in looks_at(4 * size, 480, 0.1):
        masks = {mask.numpy().tobytes() for mask in paired_masks(size, budget - 2, generator)[0]}
        assert smaller <= masks
        smaller = masks


def test_looks_grow_to_the_most_and_are_one_without_a_precision() -> None:
    looks = looks_at(116, 1000, 0.2)
    assert looks[0] == 128 and looks[-1] == 1000 and list(looks) == sorted(set(looks))
    assert all(count % 32 == 0 for count in looks[:-1])
    assert all(later <= 1.7 * count for count, later in pairwise(looks))
    assert looks_at(116, 1000, None) == (1000,) and looks_at(116, 100, 0.2) == (100,)
    assert looks_at(116, 1000, 0.2, exactly=352) == (352,)


def test_an_order_is_held_unless_leading_parts_that_differ_visibly_change_places() -> None:
    before = torch.tensor([5.0, 4.0, -3.0, 2.0, 1.0, 0.5], dtype=torch.float64)
    assert order_holds(before, before, 0.1)
    near = torch.tensor([5.0, 4.0, -3.0, 1.2, 1.3, 0.5], dtype=torch.float64)
    assert order_holds(before, near, 0.2), "a tie within the precision"
    assert not order_holds(before, near, 0.001)
    far = torch.tensor([4.0, 6.0, -3.0, 2.0, 1.0, 0.5], dtype=torch.float64)
    assert not order_holds(before, far, 0.2)
    tail = torch.tensor([5.0, 4.0, -3.0, 2.0, 1.0, 0.9], dtype=torch.float64)
    assert order_holds(tail.flip(0).flip(0), before, 0.01), "what does not lead may change places"


def test_parts_of_complements_are_added_up() -> None:
    masks = torch.tensor([[1, 0, 0], [0, 1, 1], [1, 1, 0], [1, 0, 0]]).bool()
    parts = torch.tensor([[1.0], [10.0], [100.0], [1000.0]], dtype=torch.float64)
    assert sorted(sum_by_pair(masks, parts).flatten().tolist()) == [100.0, 1011.0]


def test_precisions_out_of_range_are_refused(cnn_model: ModelUnderTest, images: Tensor) -> None:
    from audit.core.errors import UsageError

    for wrong in (0, -0.1, 1.5):
        with pytest.raises(UsageError, match="precision"):
            explain_images(cnn_model, images, method="lime", precision=wrong)
    with pytest.raises(UsageError, match="precision"):
        explain_images(cnn_model, images, method="saliency", precision=0.1)


def test_explain_takes_a_precision(cnn_model: ModelUnderTest, images: Tensor) -> None:
    from audit.api.explanation import explain

    options = SAMPLING["lime"]
    found = explain(cnn_model, images, method="lime", precision=0.4, **options)
    direct = explained(cnn_model, images, "lime", precision=0.4)
    assert found.attributions is not None and torch.equal(found.attributions, direct.attributions)
    assert bool(found.quality["reached"].all()) and found.maps["standard_error"].shape == (4, 1, 12, 12)
