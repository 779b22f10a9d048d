"""Attacks that run out of memory for what they hold beside the model's passes: fewer images, the same verdicts."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from audit.adversarial import propose as proposing
from audit.adversarial.run_battery import run_battery
from audit.api.attacking import attack_images
from audit.core.errors import SetupError
from audit.core.threat import ThreatModel
from audit.core.types import Batch
from audit.models.under_test import ModelUnderTest
from tests.memory_faults import MEMORY_FAULTS


@pytest.fixture
def starved(monkeypatch: pytest.MonkeyPatch) -> list[Exception]:
    """Attacks hold no more than two images; every kind of fault in turn."""
    raised: list[Exception] = []
    clone = Tensor.clone

    def held(images: Tensor, *args: Any, **options: Any) -> Tensor:
        if len(images) > 2:
            raised.append(list(MEMORY_FAULTS.values())[len(raised) % len(MEMORY_FAULTS)])
            raise raised[-1]
        return clone(images, *args, **options)

    propose = proposing.propose

    def hungry(*args: Any) -> Tensor:
        with monkeypatch.context() as patched:
            patched.setattr(Tensor, "clone", held)
            return propose(*args)

    for module in ("audit.adversarial.battery_run", "audit.api.attacking"):
        monkeypatch.setattr(f"{module}.propose", hungry)
    return raised


def evaluated(model: ModelUnderTest, batch: Batch) -> Any:
    return run_battery(model, batch, "linf", (0.05, 0.1), sanity_checks=False)


def test_a_battery_gives_attacks_fewer_images_and_the_same_verdicts(
    cnn_model: ModelUnderTest, cnn_batch: Batch, request: pytest.FixtureRequest
) -> None:
    expected = evaluated(cnn_model, cnn_batch)
    faults = request.getfixturevalue("starved")
    found = evaluated(cnn_model, cnn_batch)
    assert set(map(id, faults)) == set(map(id, MEMORY_FAULTS.values()))
    assert torch.equal(found.survived, expected.survived)
    torch.testing.assert_close(found.minimal_eps, expected.minimal_eps)


@pytest.mark.usefixtures("starved")
def test_a_single_attack_says_that_it_was_given_too_many(cnn_model: ModelUnderTest, cnn_batch: Batch) -> None:
    with pytest.raises(SetupError, match=r"pgd ran out of memory .* \d+ images .* give it fewer"):
        attack_images(cnn_model, cnn_batch.images, cnn_batch.labels, ThreatModel("linf", 0.1), method="pgd")
