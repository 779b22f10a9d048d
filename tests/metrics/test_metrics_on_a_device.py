"""Every registered metric, and what judges attacks, on a device: with numbers in float64 and without."""

from __future__ import annotations

import inspect
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor

from audit.adversarial.verify import verify
from audit.api.attacking import attack_images
from audit.api.certification import certify
from audit.api.robustness import robustness
from audit.core.method import Method
from audit.core.registry import methods
from audit.core.seeding import Generators
from audit.core.threat import ThreatModel
from audit.core.types import Batch
from audit.metrics.determinism import batch_difference
from audit.metrics.gradient_masking import derivative_error, face_error, linear_distance, linearise, noise_response
from audit.models.under_test import ModelUnderTest
from tests.pretended_device import on_both

QUICK: dict[str, dict[str, Any]] = {
    "smallest-triggers": {"steps": 20, "batch": 4},
    "smoothing": {"selection": 8, "samples": 16},
    "interval-bounds": {"bisections": 3},
}
PARTS = {"smallest-triggers": "areas", "smoothing": "share"}
"""What is compared of metrics that give more than one number an image."""
EVERY = [pytest.param(method, id=method.name) for method in methods("metric")]


def arguments(model: ModelUnderTest, batch: Batch, device: torch.device) -> dict[str, Any]:
    """A value for each parameter that a metric may have."""
    images, labels = batch.images[:4].to(device), batch.labels[:4].to(device)
    draw = torch.Generator().manual_seed(5)
    maps = torch.randn(3, 4, 1, 12, 12, generator=draw)
    masks = torch.zeros(4, 12, 12, dtype=torch.bool)
    masks[:, 3:9, 2:7] = True
    draws = Generators.of(batch.ids[:4], seed=3, purpose="metrics", device=device)
    return {
        "model": model,
        "images": images,
        "batch": Batch(images, labels, batch.ids[:4]),
        "attributions": maps[0].to(device),
        "first": maps[1].to(device),
        "second": maps[2].to(device),
        "maps": maps.to(device),
        "masks": masks.to(device),
        "order": maps[0].flatten(1).argsort(1).to(device),
        "curves": torch.rand(4, 9, generator=draw).to(device),
        "targets": labels,
        "generators": draws,
        "draws": draws,
        "explain": lambda pictures: pictures.square(),
    }


def on_device(cnn_model: ModelUnderTest, device: torch.device) -> ModelUnderTest:
    return ModelUnderTest(cnn_model.net, classes=tuple("abcd"), input_shape=(1, 12, 12), device=device)


@pytest.mark.parametrize("method", EVERY)
def test_a_metric_is_the_same_on_another_device(method: Method, cnn_model: ModelUnderTest, cnn_batch: Batch) -> None:
    def measured(device: torch.device) -> Tensor:
        given = arguments(on_device(cnn_model, device), cnn_batch, device) | QUICK.get(method.name, {})
        taken = {name: given[name] for name in inspect.signature(method.function).parameters if name in given}
        values = method.function(**taken)
        values = getattr(values, PARTS[method.name]) if method.name in PARTS else values
        return values if isinstance(values, Tensor) else torch.as_tensor(values.astype("f4")).to(device)

    here, there = on_both(measured)
    torch.testing.assert_close(here, there, atol=1e-5, rtol=1e-4, equal_nan=True, check_dtype=False)


def test_what_examines_a_model_is_the_same_on_another_device(cnn_model: ModelUnderTest, cnn_batch: Batch) -> None:
    def examined(device: torch.device) -> Tensor:
        given = arguments(on_device(cnn_model, device), cnn_batch, device)
        model, batch, draws = given["model"], given["batch"], given["draws"]
        local = linearise(model, batch)
        measured = [linear_distance(local), derivative_error(model, local, draws), face_error(model, batch, draws)]
        return torch.stack([*measured, noise_response(model, local, draws)[0], batch_difference(model, batch.images)])

    here, there = on_both(examined)
    torch.testing.assert_close(here, there, atol=1e-3, rtol=1e-3)


def test_verdicts_are_the_same_on_another_device(cnn_model: ModelUnderTest, cnn_batch: Batch) -> None:
    threat = ThreatModel("l2", 0.3)

    def judged(device: torch.device) -> Tensor:
        given = arguments(on_device(cnn_model, device), cnn_batch, device)
        proposals = given["images"] + 0.1 * given["draws"].normal(1, 12, 12)
        verdicts = verify(given["model"], given["batch"], proposals, threat)
        return torch.cat(
            [verdicts.distance, verdicts.broken.to(verdicts.distance), verdicts.faults.to(verdicts.distance)]
        )

    here, there = on_both(judged)
    torch.testing.assert_close(here, there)


def test_a_whole_evaluation_is_the_same_on_another_device(cnn_model: ModelUnderTest, cnn_batch: Batch) -> None:
    def evaluated(device: torch.device) -> Tensor:
        given = arguments(on_device(cnn_model, device), cnn_batch, device)
        threat = ThreatModel("linf", 0.08)
        outcome = robustness(given["model"], given["images"], given["targets"], threat, attacks=["fgsm", "pgd"])
        return outcome.robust.to(device).float()

    here, there = on_both(evaluated)
    assert torch.equal(here, there)


def test_what_python_callers_ask_is_the_same_with_images_left_on_the_cpu(
    cnn_model: ModelUnderTest, cnn_batch: Batch, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ten thousand images need not fit on a card beside the model."""
    attacked = partial(robustness, attacks=["fgsm"])
    monkeypatch.setattr("audit.api.certification.robustness", lambda *args, battery, **rest: attacked(*args, **rest))
    threat, images, labels = ThreatModel("linf", 0.08), cnn_batch.images[:4], cnn_batch.labels[:4]

    def asked(device: torch.device) -> Tensor:
        model = on_device(cnn_model, device)
        found = attack_images(model, images, labels, threat, method="pgd", steps=5)
        certified = certify(model, images[:2], labels[:2], ThreatModel("linf", 0.001), seconds_per_image=5.0)
        robust = attacked(model, images, labels, threat).robust
        proven = torch.tensor([verdict == "proven" for verdict in certified.verdict])
        assert found.images.device == robust.device == torch.device("cpu")
        return torch.cat([found.images.flatten(), robust.float(), proven.float()]).to(device)

    here, there = on_both(asked)
    torch.testing.assert_close(here, there, atol=1e-5, rtol=1e-4)
