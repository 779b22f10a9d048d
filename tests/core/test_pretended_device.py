"""The pretended device itself, and how seldom a search waits for it."""

from __future__ import annotations

import pytest
import torch

from audit.core.registry import find
from audit.core.seeding import Generators
from audit.core.threat import Norm, ThreatModel
from audit.core.types import Batch
from audit.models.flat_faces import A_HAIR_INSIDE
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


EVERY: tuple[Norm, ...] = ("linf", "l2", "l1")
NORMS: dict[str, tuple[Norm, ...]] = {
    "pgd": EVERY,
    "apgd-ce": EVERY,
    "fab-t": EVERY,
    "square": EVERY,
    "apgd-t": ("linf",),
    "multi-targeted": ("linf",),
    "mi-fgsm": ("l2",),
    "random-noise": ("l2",),
}
"""The attacks that drive a window of examples, with the balls in which their steps differ."""
LENGTH = {"square": "queries", "random-noise": "draws"}


@pytest.mark.parametrize(("name", "norm"), [(name, norm) for name, norms in NORMS.items() for norm in norms])
def test_a_search_waits_for_the_device_only_at_its_releases(
    name: str, norm: Norm, cnn_model: ModelUnderTest, cnn_batch: Batch
) -> None:
    """Reading how many are finished makes the host wait, once in eight steps, and at the start and the end. Nothing is
    copied to the device meanwhile, also where gradients are taken beside the image.
    """
    method, ids, waits, copies = find("attack", name), cnn_batch.ids[:4], [], []
    target = {"targets": 1} if "targets" in method.settings({}) else {}
    for steps in (8, 16):
        with PretendedDevice() as pretended:
            batch = Batch(cnn_batch.images[:4].to(ELSEWHERE), cnn_batch.labels[:4].to(ELSEWHERE), ids)
            draws = Generators.of(ids, seed=0, purpose="contract", device=ELSEWHERE)
            model = ModelUnderTest(cnn_model.net, classes=tuple("abcd"), input_shape=(1, 12, 12), device=ELSEWHERE)
            model.gradient_point = A_HAIR_INSIDE
            pretended.host_reads.clear()
            pretended.host_writes.clear()
            settings = method.settings({LENGTH.get(name, "steps"): steps, **target})
            method.function(model, batch, ThreatModel(norm, 1e-6), draws, **settings)
            waits.append(sum(pretended.host_reads.values()))
            copies.append(sum(pretended.host_writes.values()))
    assert waits[1] - waits[0] <= 1
    assert copies[1] == copies[0]


def test_images_that_stay_on_the_processor_cost_a_search_two_copies_a_release(
    cnn_model: ModelUnderTest, cnn_batch: Batch
) -> None:
    """The answers and where they belong; with how many are finished three waits. Admitting images costs none."""
    reads = []
    for count in (2, 6):
        with PretendedDevice() as pretended:
            batch = Batch(cnn_batch.images[:count], cnn_batch.labels[:count], cnn_batch.ids[:count])
            draws = Generators.of(batch.ids, seed=0, purpose="contract", device="cpu")
            model = ModelUnderTest(cnn_model.net, classes=tuple("abcd"), input_shape=(1, 12, 12), device=ELSEWHERE)
            model.gradient_point, model.layout.batch_size = A_HAIR_INSIDE, 1
            method = find("attack", "pgd")
            pretended.host_reads.clear()
            method.function(model, batch, ThreatModel("linf", 1e-6), draws, **method.settings({"steps": 8}))
            reads.append(sum(pretended.host_reads.values()))
    assert reads[1] - reads[0] <= 3 * (6 - 2)
