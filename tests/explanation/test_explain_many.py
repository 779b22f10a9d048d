"""Sharing a queue saves passes and leaves each method its own definition."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from audit.core.registry import find
from audit.core.seeding import Generators
from audit.core.types import Batch
from audit.explanation.lime_regression import lime_kernel_weights
from audit.explanation.mask_reuse import ExplanationBatch, can_reuse, explain_many, reuse_samples
from audit.explanation.run import explain_images
from audit.masking.baselines import fill_images
from audit.masking.queue import MaskQueue
from audit.metrics.deletion_insertion import RemovalMode, removal_curves, segment_curves
from audit.models.under_test import ModelUnderTest

METHODS: dict[str, dict[str, Any]] = {"lime": {}, "shap": {}, "rise": {}}
MODES: tuple[RemovalMode, ...] = ("insertion", "deletion")


def grid(across: int) -> Tensor:
    """A 12x12 image in `across` x `across` segments."""
    step = torch.arange(12) * across // 12
    return step[:, None] * across + step[None]


def test_lime_costs_nothing_after_enumerated_shapley_and_maps_are_the_same(
    cnn_model: ModelUnderTest, cnn_batch: Batch
) -> None:
    methods: dict[str, dict[str, Any]] = {"lime": {"samples": 400}, "shap": {}, "saliency": {}}
    images = cnn_batch.images[:4]
    together = explain_many(cnn_model, images, methods=methods, ids=cnn_batch.ids[:4], seed=3)
    apart = {
        name: explain_images(
            cnn_model, images, method=name, baseline="segment-mean", ids=cnn_batch.ids[:4], seed=3, **settings
        )
        for name, settings in methods.items()
    }
    for name, found in apart.items():
        assert torch.allclose(together[name].attributions, found.attributions, atol=1e-6), name
    assert together["lime"].passes.forwards == 0
    assert apart["lime"].passes.forwards > 400


@pytest.mark.parametrize("across", [3, 5, 6])
def test_five_together_cost_at_most_three_fifths_of_the_passes_apart(
    cnn_model: ModelUnderTest, cnn_batch: Batch, across: int
) -> None:
    images, segments = cnn_batch.images[:3], grid(across)
    with cnn_model.count() as joint:
        together = explain_many(cnn_model, images, methods=METHODS, segments=segments, baseline="mean")
        for name in METHODS:
            for mode in MODES:
                segment_curves(together.queue, together[name].attributions, mode=mode)
    with cnn_model.count() as single:
        for name in METHODS:
            given = {} if name == "rise" else {"segments": segments}
            found = explain_images(cnn_model, images, method=name, baseline="mean", **given).attributions
            for mode in MODES:
                removal_curves(
                    cnn_model,
                    images,
                    {name: found.sum(1).flatten(1).argsort(1, descending=True)},
                    targets=cnn_model.predictions(images),
                    fill=fill_images(images, "mean"),
                    mode=mode,
                )
    assert joint.passes.forwards <= 0.6 * single.passes.forwards


class Recorded(MaskQueue):
    """A queue that keeps the masks it is asked for."""

    asked: list[Tensor]

    def scores(self, owners: Tensor, masks: Tensor) -> Tensor:
        self.asked.append(masks)
        return super().scores(owners, masks)


@pytest.fixture
def shared(cnn_model: ModelUnderTest, cnn_batch: Batch) -> ExplanationBatch:
    return explain_many(cnn_model, cnn_batch.images[:1], methods=METHODS, segments=grid(6), baseline="mean")


def last_asked(
    model: ModelUnderTest, method: str, shared: ExplanationBatch, **settings: Any
) -> tuple[Tensor, Tensor, Tensor]:
    """Masks and outputs one method asks of an image after Shapley's sampling, and its map's values by segment."""
    plain = shared.queue
    queue = Recorded(model, plain.images, plain.baseline, plain.segments, plain.score)
    queue.asked = []
    explain_images(model, plain.images, method="shap", segments=grid(6), baseline="mean", queue=queue)
    found = explain_images(
        model, plain.images, method=method, segments=grid(6), baseline="mean", queue=queue, **settings
    )
    masks = queue.asked[-1]
    outputs = queue.scores(torch.zeros(len(masks), dtype=torch.int64), masks)
    values = torch.stack([found.attributions[0, 0][grid(6) == number].mean() for number in range(36)])
    return masks, outputs.double(), values


def test_shared_lime_is_its_ridge_on_the_masks_it_took(cnn_model: ModelUnderTest, shared: ExplanationBatch) -> None:
    from sklearn.linear_model import Ridge

    masks, outputs, values = last_asked(cnn_model, "lime", shared)
    regression = Ridge(alpha=1).fit(
        masks.numpy(), outputs.numpy(), sample_weight=lime_kernel_weights(masks, 0.25).numpy()
    )
    assert torch.allclose(values.double(), torch.from_numpy(regression.coef_), atol=1e-6)
    assert bool(masks[0].all())


def test_shared_rise_is_the_mean_where_shown_less_the_mean(cnn_model: ModelUnderTest, shared: ExplanationBatch) -> None:
    masks, outputs, values = last_asked(cnn_model, "rise", shared, over="segments")
    slow = [float(outputs[mask].mean() - outputs.mean()) for mask in masks.T]
    assert torch.allclose(values.double(), torch.tensor(slow, dtype=torch.float64), atol=1e-5)


def test_exchanged_masks_have_the_sizes_drawn_and_come_from_the_pool(shared: ExplanationBatch) -> None:
    queue, pool = shared.queue, shared.queue.offered_samples(0)
    drawn = torch.rand(300, 36, generator=torch.Generator().manual_seed(1)) < 0.5
    found = reuse_samples(queue, 0, drawn, Generators(torch.tensor([7])))
    assert torch.equal(found.sum(1), drawn.sum(1))
    known = {mask.numpy().tobytes() for mask in pool}
    assert sum(mask.numpy().tobytes() in known for mask in found) > 200


def test_exchanged_masks_show_every_segment_and_every_pair_as_often_as_fresh_ones(shared: ExplanationBatch) -> None:
    total, pairs, rounds = torch.zeros(36), torch.zeros(36, 36), 60
    for seed in range(rounds):
        plain = shared.queue
        queue = MaskQueue(plain.model, plain.images, plain.baseline, plain.segments, plain.score)
        explain_images(plain.model, plain.images, method="shap", segments=grid(6), queue=queue, seed=seed, samples=300)
        drawn = torch.rand(200, 36, generator=torch.Generator().manual_seed(seed)) < 0.5
        found = reuse_samples(queue, 0, drawn, Generators(torch.tensor([seed]))).float()
        total, pairs = total + found.mean(0), pairs + found.T @ found / 200
    error = 5 * 0.5 / (rounds * 200) ** 0.5
    assert (total / rounds - 0.5).abs().max() < error
    off = ~torch.eye(36, dtype=torch.bool)
    assert (pairs / rounds - 0.25).abs()[off].max() < error


def test_occlusion_over_segments_is_the_drop_of_each(cnn_model: ModelUnderTest, cnn_batch: Batch) -> None:
    image, segments = cnn_batch.images[:1], grid(3)
    found = explain_images(cnn_model, image, method="occlusion", over="segments", segments=segments, baseline=0.1)
    for number in range(9):
        covered = torch.where(segments == number, 0.1, image)
        drop = (cnn_model.logits(image) - cnn_model.logits(covered))[0, found.targets[0]]
        assert torch.allclose(found.attributions[0, 0][segments == number], drop, atol=1e-5)


@pytest.mark.parametrize("mode", MODES)
def test_segment_curves_are_those_of_a_plain_loop(shared: ExplanationBatch, mode: RemovalMode) -> None:
    queue, maps = shared.queue, shared["shap"].attributions
    curve = segment_curves(queue, maps, mode=mode, steps=12)[0]
    values = torch.stack([maps[0, 0][grid(6) == number].mean() for number in range(36)])
    order = values.argsort(descending=True, stable=True)
    for step in range(13):
        moved = torch.isin(grid(6), order[: 3 * step])
        shown = moved if mode == "insertion" else ~moved
        image = torch.where(shown, queue.images[0], queue.baseline[0])
        assert torch.allclose(curve[step], queue.model.logits(image[None])[0, shared["shap"].targets[0]], atol=1e-5)


def test_numpy_arrays_are_taken(cnn_model: ModelUnderTest, cnn_batch: Batch) -> None:
    images, segments = cnn_batch.images[:2], torch.arange(144).view(12, 12) // 24
    plain = explain_images(
        cnn_model, images, method="shap", segments=segments, baseline=images * 0, targets=cnn_batch.labels[:2]
    )
    arrays = explain_images(
        cnn_model,
        images.numpy(),  # type: ignore[arg-type]
        method="shap",
        segments=segments.numpy(),  # type: ignore[arg-type]
        baseline=(images * 0).numpy(),  # type: ignore[arg-type]
        targets=cnn_batch.labels[:2].numpy(),  # type: ignore[arg-type]
    )
    assert torch.equal(plain.attributions, arrays.attributions)


@pytest.mark.parametrize(
    ("method", "settings", "baseline", "shared"),
    [
        ("lime", {}, None, True),
        ("lime", {}, "mean", True),
        ("lime", {"replay": 3}, None, False),
        ("shap", {}, None, False),
        ("saliency", {}, "mean", False),
        ("rise", {}, "mean", False),
        ("rise", {"over": "segments"}, "mean", True),
        ("rise", {"over": "segments"}, None, False),
        ("occlusion", {"over": "segments"}, 0.0, True),
    ],
)
def test_answers_are_spent_by_segment_over_one_baseline(
    method: str, settings: dict[str, Any], baseline: str | float | None, shared: bool
) -> None:
    chosen = find("attribution", method)
    assert can_reuse(chosen, chosen.settings(settings), baseline) is shared
