"""The pretended device itself, and how seldom a search waits for it."""

from __future__ import annotations

import pytest
import torch

from audit.core.registry import find
from audit.core.seeding import Generators
from audit.core.threat import ThreatModel
from audit.core.types import Batch
from audit.models.under_test import ModelUnderTest
from tests.pretended_device import ELSEWHERE, PretendedDevice


def test_a_tensor_of_the_cpu_does_not_mix_with_one_of_the_device() -> None:
    with PretendedDevice() as pretended:
        there = torch.ones(3, device=ELSEWHERE)
        assert (there * 2 + torch.tensor(1.0)).tolist() == [3, 3, 3]  # a number may
        assert there[torch.tensor([0, 2])].device == ELSEWHERE  # positions may
        with pytest.raises(RuntimeError, match="same device"):
            there + torch.ones(3)
        with pytest.raises(RuntimeError, match="numpy"):
            there.numpy()
        before = sum(pretended.host_reads.values())
        assert float(there.sum()) == 3
        assert sum(pretended.host_reads.values()) == before + 1
    with PretendedDevice(float64=False), pytest.raises(TypeError, match="no float64"):
        torch.ones(3, device=ELSEWHERE).double()


@pytest.mark.parametrize("name", ["pgd", "apgd-ce"])
def test_a_search_waits_for_the_device_only_at_its_releases(
    name: str, cnn_model: ModelUnderTest, cnn_batch: Batch
) -> None:
    """Reading what is finished makes the host wait: once in eight steps, and at the start and the end."""
    method, ids, waits = find("attack", name), cnn_batch.ids[:4], []
    for steps in (16, 48):
        with PretendedDevice() as pretended:
            batch = Batch(cnn_batch.images[:4].to(ELSEWHERE), cnn_batch.labels[:4].to(ELSEWHERE), ids)
            draws = Generators.of(ids, seed=0, purpose="contract", device=ELSEWHERE)
            model = ModelUnderTest(cnn_model.net, classes=tuple("abcd"), input_shape=(1, 12, 12), device=ELSEWHERE)
            _ = model.gradient_point
            pretended.host_reads.clear()
            method.function(model, batch, ThreatModel("linf", 1e-6), draws, **method.settings({"steps": steps}))
            waits.append(sum(pretended.host_reads.values()))
    assert waits[1] - waits[0] <= 3 * (48 - 16) // 8
