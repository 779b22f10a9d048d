"""Every rung of the proofs on the pretended device: the verdicts of the CPU, and nothing mixes."""

from __future__ import annotations

import torch
from torch import nn

import audit
from audit.bounds.outcome import RUNGS, Budget
from audit.bounds.prover import Prover
from audit.core.types import Batch
from tests.pretended_device import ELSEWHERE, PretendedDevice

SHAPE = (1, 8, 8)


def _verdicts(device: torch.device | str) -> list[tuple[str, str | None]]:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = nn.Sequential(
            nn.Conv2d(1, 3, 3), nn.MaxPool2d(2), nn.ReLU(), nn.Flatten(), nn.Linear(27, 8), nn.ReLU(), nn.Linear(8, 3)
        )
    with torch.no_grad():
        for weight in (parameter for parameter in net.parameters() if parameter.ndim > 1):
            weight.mul_(4)
    model = audit.wrap(net, classes=3, input_shape=SHAPE, device=device)
    images = torch.rand(6, *SHAPE, generator=torch.Generator().manual_seed(1))
    batch = Batch(images, model.predictions(images).cpu(), tuple("abcdef"))
    goal = batch.target_mask(3)
    Prover(model).check_agreement(images)
    found = []
    for eps in (0.02, 0.05, 0.1):
        outcomes = Prover(model).prove(batch.images, batch.labels, goal, "linf", eps, Budget(RUNGS, 20))
        found += [(outcome.verdict, outcome.rung) for outcome in outcomes]
    return found


def test_proofs_on_another_device_are_those_of_the_cpu() -> None:
    here = _verdicts("cpu")
    assert {rung for _, rung in here} >= {"crown", "alpha-crown"}
    with PretendedDevice():
        assert _verdicts(ELSEWHERE) == here
