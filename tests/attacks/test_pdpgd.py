"""PDPGD on linear models: the least sum of changes is the gap over the steepest value, whichever class is nearest."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from audit.adversarial.verify import verify
from audit.attacks.pdpgd import pdpgd
from audit.core.seeding import Generators
from audit.core.threat import ThreatModel
from audit.core.types import Batch
from audit.models.under_test import ModelUnderTest


def test_it_finds_the_nearest_class_where_another_is_likelier() -> None:
    net = nn.Sequential(nn.Flatten(), nn.Linear(16, 3))
    with torch.no_grad():
        net[1].weight.zero_()
        net[1].weight[1, :8] = 0.3
        net[1].weight[2, 8] = 2.0
        net[1].bias.copy_(torch.tensor([0.0, -1.2 - 0.12, -1.0 - 0.25]))
    model = ModelUnderTest(net, classes="abc", input_shape=(1, 4, 4), device="cpu")
    batch = Batch(torch.full((1, 1, 4, 4), 0.5), torch.tensor([0]), ("x",))
    threat, draws = ThreatModel("l1", 16.0), Generators.of(["x"], seed=0, purpose="t", device="cpu")
    verdicts = verify(model, batch, pdpgd(model, batch, threat, draws, steps=200), threat)
    assert bool(verdicts.broken) and float(verdicts.distance) == pytest.approx(0.25 / 2, rel=0.03)


def test_the_box_is_kept_while_the_distance_shrinks() -> None:
    """The steepest value has no room left: the next one has to do."""
    net = nn.Sequential(nn.Flatten(), nn.Linear(4, 2))
    with torch.no_grad():
        net[1].weight.copy_(torch.tensor([[0.0, 0, 0, 0], [4.0, 2.0, 0.1, 0.1]]))
        net[1].bias.copy_(torch.tensor([0.0, -4.0 - 1.0 - 0.1 - 0.5]))
    model = ModelUnderTest(net, classes="ab", input_shape=(1, 2, 2), device="cpu")
    image = torch.tensor([1.0, 0.5, 0.5, 0.5]).view(1, 1, 2, 2)
    batch = Batch(image, torch.tensor([0]), ("x",))
    threat, draws = ThreatModel("l1", 4.0), Generators.of(["x"], seed=0, purpose="t", device="cpu")
    verdicts = verify(model, batch, pdpgd(model, batch, threat, draws, steps=300), threat)
    assert bool(verdicts.broken) and float(verdicts.distance) == pytest.approx(0.5 / 2, rel=0.05)
