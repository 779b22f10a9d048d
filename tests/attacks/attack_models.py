"""Nets for the attack tests."""

from __future__ import annotations

import torch
from torch import nn


def tiny_net(classes: int = 4) -> nn.Sequential:
    """An untrained CNN for 12x12 grey images."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(7)
        return nn.Sequential(nn.Conv2d(1, 8, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(200, classes))
