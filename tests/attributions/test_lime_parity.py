"""LIME replays the lime package: same masks, same coefficients."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from lime import lime_image
from torch import Tensor

from audit.attributions.lime import _replayed
from audit.explanation.run import explain_images
from audit.models.under_test import ModelUnderTest


@pytest.fixture
def colour_model() -> ModelUnderTest:
    torch.manual_seed(4)
    net = torch.nn.Sequential(torch.nn.Conv2d(3, 6, 3), torch.nn.Tanh(), torch.nn.Flatten(), torch.nn.Linear(6 * 64, 4))
    return ModelUnderTest(net, classes="abcd", input_shape=(3, 10, 10), device="cpu")


@pytest.fixture
def colour_image() -> Tensor:
    return torch.rand(1, 3, 10, 10, generator=torch.Generator().manual_seed(8))


def segments_of(count: int) -> Tensor:
    return (torch.arange(100).view(10, 10) * count) // 100


def of_the_package(
    model: ModelUnderTest, image: Tensor, segments: Tensor, seed: int, samples: int, **options: Any
) -> tuple[Any, Any]:
    """The package's own explanation of class 2's probability, predictions in the same float64 from float32 logits."""

    def classify(batch: Any) -> Any:
        tensor = torch.from_numpy(np.asarray(batch)).float().permute(0, 3, 1, 2).contiguous()
        return model.logits(tensor).softmax(1).numpy().astype(np.float64)

    explainer = lime_image.LimeImageExplainer(random_state=seed)
    return explainer, explainer.explain_instance(
        image[0].permute(1, 2, 0).numpy(),
        classify,
        labels=(2,),
        top_labels=None,
        num_samples=samples,
        batch_size=128,
        segmentation_fn=lambda _: segments.numpy(),
        **options,
    )


@pytest.mark.parametrize("count", [5, 9, 20])
@pytest.mark.parametrize("features", [None, 3, 8])
@pytest.mark.parametrize("hide", [None, 0.25])
def test_coefficients_equal_the_packages(
    colour_model: ModelUnderTest, colour_image: Tensor, count: int, features: int | None, hide: float | None
) -> None:
    segments = segments_of(count)
    options = {"num_features": 100_000 if features is None else features, "hide_color": hide}
    _, theirs = of_the_package(colour_model, colour_image, segments, 7, 150, **options)
    mine = explain_images(
        colour_model,
        colour_image,
        method="lime",
        targets=2,
        output="probability",
        baseline="segment-mean" if hide is None else hide,
        segments=segments,
        samples=150,
        features=features,
        replay=7,
    )
    expected = np.zeros(count)
    for feature, coefficient in theirs.local_exp[2]:
        expected[feature] = coefficient
    first_pixels = [(segments == number).nonzero()[0].tolist() for number in range(count)]
    found = np.array([mine.attributions[0, 0, row, column].item() for row, column in first_pixels])
    assert np.abs(expected).max() > 1e-4
    assert np.allclose(found, expected, rtol=1e-5, atol=1e-8)
    assert set(np.flatnonzero(found)) == set(np.flatnonzero(expected))
    assert mine.quality["r2"].item() == pytest.approx(theirs.score, abs=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("features", [None, 4, 9])
def test_regression_equals_the_packages_on_equal_predictions(dtype: torch.dtype, features: int | None) -> None:
    from lime.lime_base import LimeBase
    from sklearn.metrics import pairwise_distances

    from audit.explanation.lime_regression import lime_kernel_weights, weighted_ridge

    masks = _replayed(3, 200, 11)
    outputs = torch.rand(200, dtype=dtype, generator=torch.Generator().manual_seed(1)).double()
    data = masks.numpy().astype(int)
    distances = pairwise_distances(data, data[:1], metric="cosine").ravel()
    base = LimeBase(lambda d: np.sqrt(np.exp(-(d**2) / 0.25**2)), random_state=np.random.RandomState(0))
    intercept, pairs, r2, _ = base.explain_instance_with_data(
        data, outputs.numpy()[:, None], distances, 0, 100_000 if features is None else features
    )
    mine = weighted_ridge(masks, outputs, lime_kernel_weights(masks, 0.25), features)
    assert sorted(f for f, _ in pairs) == mine.coefficients.nonzero().flatten().tolist()
    assert max(abs(mine.coefficients[f].item() - c) for f, c in pairs) < 1e-10
    assert mine.intercept == pytest.approx(intercept, abs=1e-10)
    assert mine.r2 == pytest.approx(r2, abs=1e-10)


def test_replayed_masks_are_the_packages_bits(colour_model: ModelUnderTest, colour_image: Tensor) -> None:
    seen: list[Any] = []
    explainer = lime_image.LimeImageExplainer(random_state=7)
    original = explainer.base.explain_instance_with_data
    explainer.base.explain_instance_with_data = lambda data, *rest, **named: (  # type: ignore[method-assign]
        seen.append(data),
        original(data, *rest, **named),
    )[1]
    explainer.explain_instance(
        colour_image[0].permute(1, 2, 0).numpy(),
        lambda batch: np.ones((len(batch), 2)) / 2,
        labels=(1,),
        top_labels=None,
        num_samples=60,
        segmentation_fn=lambda _: segments_of(9).numpy(),
    )
    assert np.array_equal(seen[0] == 1, _replayed(7, 60, 9).numpy())


def test_same_seed_same_answer_other_seed_another(colour_model: ModelUnderTest, colour_image: Tensor) -> None:
    def ask(seed: int) -> Tensor:
        found = explain_images(colour_model, colour_image, method="lime", seed=seed, samples=60)
        assert found.attributions is not None
        return found.attributions

    assert torch.equal(ask(0), ask(0))
    assert not torch.equal(ask(0), ask(1))
