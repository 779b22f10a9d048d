"""Closed forms and slow twins of the methods that average, multiply or repair gradients."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from audit.attributions.expected_gradients import _stratified
from audit.core.seeding import Generators
from audit.core.types import Batch
from audit.explanation.run import explain_images
from audit.models.under_test import ModelUnderTest

TARGETS = [0, 2, 1, 1]


def test_closed_forms_on_a_linear_model(linear: ModelUnderTest, images: Tensor, weight: Tensor) -> None:
    rows = weight[TARGETS]

    def maps(method: str, **options: object) -> Tensor:
        found = explain_images(linear, images, method=method, targets=TARGETS, **options)  # type: ignore[arg-type]
        assert found.attributions is not None, found.reason
        return found.attributions

    assert torch.allclose(maps("input-x-gradient"), rows * images, atol=1e-5)
    assert torch.allclose(maps("smooth-grad", samples=4), rows, atol=1e-5)
    assert torch.allclose(maps("expected-gradients", samples=8, baseline=0.2), rows * (images - 0.2), atol=1e-5)


def test_expected_gradients_visit_every_reference_equally(
    linear: ModelUnderTest, images: Tensor, weight: Tensor
) -> None:
    references = torch.rand(5, 2, 6, 6, generator=torch.Generator().manual_seed(9))
    found = explain_images(
        linear, images, method="expected-gradients", targets=TARGETS, references=references, samples=10
    )
    assert torch.allclose(found.attributions, weight[TARGETS] * (images - references.mean(0)), atol=1e-5)
    assert float(found.quality["completeness_residual"].max()) < 1e-4


@pytest.mark.parametrize(("count", "samples"), [(1, 16), (4, 16), (5, 13), (50, 20)])
def test_places_on_the_lines_are_stratified(count: int, samples: int) -> None:
    chosen, place = _stratified(Generators.of("ab", seed=1, purpose="t", device="cpu"), count, samples)
    assert bool(((place >= 0) & (place < 1)).all())
    for row, where in zip(chosen, place, strict=True):
        visits = row.bincount(minlength=count)
        assert int(visits.max()) - int(visits[visits > 0].min()) <= 1
        for reference in range(count):
            mine = where[row == reference].sort().values
            assert ((mine * len(mine)).floor().long() == torch.arange(len(mine))).all()
    if samples % count == 0:
        assert ((place.sort(dim=1).values * samples).floor() == torch.arange(samples)).all()


def test_more_samples_bring_expected_gradients_to_integrated_gradients(
    cnn_model: ModelUnderTest, cnn_batch: Batch
) -> None:
    exact = explain_images(cnn_model, cnn_batch.images, method="integrated-gradients", steps=256).attributions
    errors = []
    for samples in (8, 128):
        found = explain_images(cnn_model, cnn_batch.images, method="expected-gradients", samples=samples).attributions
        errors.append(float((found - exact).norm() / exact.norm()))
    assert errors[1] < 0.02
    assert errors[1] < errors[0] / 3


def test_smooth_grad_is_the_mean_gradient_of_the_noisy_copies(cnn_model: ModelUnderTest, cnn_batch: Batch) -> None:
    images = cnn_batch.images[:3]
    ids = cnn_batch.ids[:3]
    found = explain_images(
        cnn_model, images, method="smooth-grad", samples=6, noise=0.3, ids=ids, targets=cnn_batch.labels[:3]
    )
    generators = Generators.of(ids, seed=0, purpose="attribution/smooth-grad", device="cpu")
    span = (images.amax((1, 2, 3)) - images.amin((1, 2, 3))).view(-1, 1, 1, 1)
    total = torch.zeros_like(images)
    for pair in range(3):
        noise = 0.3 * span * generators.fork(pair).normal(1, 12, 12)
        for inputs in (images + noise, images - noise):
            leaf = inputs.requires_grad_(True)
            scores = cnn_model.module(leaf).gather(1, cnn_batch.labels[:3, None]).sum()
            total += torch.autograd.grad(scores, leaf)[0]
    assert torch.allclose(found.attributions, total / 6, atol=1e-6)


def test_maps_from_activations_equal_their_formulas(cnn_model: ModelUnderTest, cnn_batch: Batch) -> None:
    images, targets = cnn_batch.images, cnn_batch.labels
    features = cnn_model.net[:4](images).detach().requires_grad_(True)  # type: ignore[index]
    scores = cnn_model.net[4:](features).gather(1, targets[:, None]).sum()  # type: ignore[index]
    (gradient,) = torch.autograd.grad(scores, features)
    features = features.detach()
    weights = torch.zeros(len(images), features.shape[1])
    for n in range(len(images)):
        for k in range(features.shape[1]):
            for g in gradient[n, k].flatten().tolist():
                below = 2 * g**2 + float(features[n, k].relu().sum()) * g**3
                weights[n, k] += (g**2 / below if below else 0.0) * max(g, 0.0)
    expected = {
        "grad-cam-plus-plus": (weights[:, :, None, None] * features.relu()).sum(1, keepdim=True),
        "layer-cam": (gradient.clamp(min=0) * features).sum(1, keepdim=True),
    }
    for name, coarse in expected.items():
        large = functional.interpolate(coarse, size=(12, 12), mode="bilinear", align_corners=False).clamp(min=0)
        found = explain_images(cnn_model, images, method=name, targets=targets)
        assert torch.allclose(found.attributions, large, rtol=1e-3, atol=1e-5), name


def test_references_and_completeness_of_deep_lift(linear: ModelUnderTest, images: Tensor, weight: Tensor) -> None:
    references = torch.rand(3, 2, 6, 6, generator=torch.Generator().manual_seed(9))

    class Flat(nn.Sequential):
        """The linear fixture as modules, which DeepLIFT asks for."""

    layer = nn.Linear(72, 3)
    with torch.no_grad():
        layer.weight.copy_(weight.flatten(1))
    model = ModelUnderTest(Flat(nn.Flatten(), layer), classes="abc", input_shape=(2, 6, 6), device="cpu")
    lifted = explain_images(model, images, method="deep-lift", targets=TARGETS, baseline=0.3)
    assert torch.allclose(lifted.attributions, weight[TARGETS] * (images - 0.3), atol=1e-5)
    shared = explain_images(model, images, method="deep-shap", targets=TARGETS, references=references)
    assert torch.allclose(shared.attributions, weight[TARGETS] * (images - references.mean(0)), atol=1e-5)


def test_deep_shap_is_the_mean_of_deep_lift_over_references(cnn_model: ModelUnderTest, cnn_batch: Batch) -> None:
    images, references = cnn_batch.images[:3], cnn_batch.images[5:8]
    each = [
        explain_images(cnn_model, images, method="deep-lift", baseline=reference).attributions
        for reference in references
    ]
    shared = explain_images(cnn_model, images, method="deep-shap", references=references)
    assert torch.allclose(shared.attributions, torch.stack(each).mean(0), atol=1e-6)
    assert float(shared.quality["completeness_residual"].max()) < 1e-5
