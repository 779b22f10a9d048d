"""Models whose attributions are known by hand."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from audit.models.under_test import ModelUnderTest


class Linear(nn.Module):
    """Three classes; the logits are linear in the pixels of a two-channel image."""

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight)

    def forward(self, images: Tensor) -> Tensor:
        return images.flatten(1) @ self.weight.flatten(1).T + 0.3


@pytest.fixture
def weight() -> Tensor:
    """The gradient of each class's logit, (3, 2, 6, 6)."""
    return torch.randn(3, 2, 6, 6, generator=torch.Generator().manual_seed(5))


@pytest.fixture
def linear(weight: Tensor) -> ModelUnderTest:
    return ModelUnderTest(Linear(weight), classes="abc", input_shape=(2, 6, 6), device="cpu")


@pytest.fixture
def images() -> Tensor:
    """Four two-channel images of noise."""
    return torch.rand(4, 2, 6, 6, generator=torch.Generator().manual_seed(6))


@pytest.fixture
def quarters() -> Tensor:
    """Six segments: a 6x6 image cut in three rows and two columns."""
    rows, columns = torch.arange(6) // 2, torch.arange(6) // 3
    return rows[:, None] * 2 + columns[None]
