"""`audit.certify` against the exact minimum, `audit.robustness` and wrong arguments."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from exact_minimum import exact_linf, images_near_the_boundary, tiny_relu_model
from torch import nn

import audit
from audit.core.errors import AuditError, DataError, ModelError, UsageError

MODEL = tiny_relu_model()
BATCH = images_near_the_boundary(MODEL)
EXACT = [
    exact_linf(MODEL, image.flatten().double().numpy(), int(label))
    for image, label in zip(BATCH.images, BATCH.labels, strict=True)
]


def test_every_image_is_proven_below_its_exact_distance_and_broken_above() -> None:
    eps = sorted(EXACT)[2] * 1.005
    result = audit.certify(MODEL, BATCH.images, BATCH.labels, audit.ThreatModel("linf", eps))
    expected = ["broken" if distance < eps else "proven" for distance in EXACT]
    assert result.verdict == expected
    assert [name is not None for name in result.proven_by] == [v == "proven" for v in expected]
    broken = torch.tensor([v == "broken" for v in expected])
    assert int(broken.sum()) >= 3
    assert bool((MODEL.predictions(result.adversarial[broken]) != BATCH.labels[broken]).all())
    assert torch.equal(result.adversarial[~broken], BATCH.images[~broken])
    assert float((result.adversarial - BATCH.images).abs().max()) <= eps * (1 + 1e-5) + 1e-6
    assert result.passes.forwards > 0 and result.passes.backwards > 0 and len(result.seconds) == 5
    assert bool((result.bound[~broken] > 0).all())


def test_images_that_are_wrong_as_they_are_are_broken() -> None:
    result = audit.certify(MODEL, BATCH.images, 1 - BATCH.labels, audit.ThreatModel("linf", 1e-4))
    assert result.verdict == ["broken"] * 5
    assert torch.equal(result.adversarial, BATCH.images)


def test_a_mask_of_classes_that_are_no_violation_is_proven_at_once() -> None:
    result = audit.certify(
        MODEL,
        BATCH.images,
        BATCH.labels,
        audit.ThreatModel("linf", 0.5),
        targets=torch.zeros(5, 2, dtype=torch.bool),
    )
    assert result.verdict == ["proven"] * 5


@pytest.mark.parametrize("norm", ["l2", "l1"])
def test_other_norms_are_proven_and_broken_too(norm: Any) -> None:
    scale = {"l2": 3.0, "l1": 9.0}[norm]
    near, far = min(EXACT) * 0.5, max(EXACT) * 3 * scale
    images, labels = BATCH.images, BATCH.labels
    assert audit.certify(MODEL, images, labels, audit.ThreatModel(norm, near)).verdict == ["proven"] * 5
    assert audit.certify(MODEL, images, labels, audit.ThreatModel(norm, far)).verdict == ["broken"] * 5


WRONG: dict[str, tuple[Callable[[], Any], type[AuditError], str]] = {
    "no time": (
        lambda: audit.certify(MODEL, BATCH.images, BATCH.labels, audit.ThreatModel("linf", 0.1), seconds_per_image=0),
        UsageError,
        "seconds_per_image is 0, where a number above 0",
    ),
    "bytes": (
        lambda: audit.certify(MODEL, BATCH.images.byte(), BATCH.labels, audit.ThreatModel("linf", 0.1)),
        DataError,
        "divide bytes by 255",
    ),
    "unknown layer": (
        lambda: audit.certify(gelu_model(), BATCH.images, BATCH.labels, audit.ThreatModel("linf", 0.1)),
        ModelError,
        r"layer '2' \(GELU\) uses 'gelu'",
    ),
}


def gelu_model() -> audit.ModelUnderTest:
    net = nn.Sequential(nn.Flatten(), nn.Linear(9, 4), nn.GELU(), nn.Linear(4, 2))
    return audit.wrap(net, classes=2, input_shape=(1, 3, 3), device="cpu")


@pytest.mark.parametrize("case", WRONG)
def test_wrong_arguments_are_a_sentence(case: str) -> None:
    call, kind, words = WRONG[case]
    with pytest.raises(kind, match=words):
        call()
