"""The quantity of a model's output that is explained or judged: a logit, a probability, or its logarithm."""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor

from audit.core.types import Labels, Logits
from audit.models.under_test import ModelUnderTest

Output = Literal["logit", "probability", "log-probability"]
OUTPUTS: tuple[Output, ...] = get_args(Output)


def scores(logits: Logits, output: Output) -> Tensor:
    """The quantity of every class, (N, classes).

    Args:
        logits: Float (N, classes).
        output: Which quantity.
    """
    if output == "probability":
        return logits.softmax(1)
    return logits.log_softmax(1) if output == "log-probability" else logits


def score(logits: Logits, targets: Labels, output: Output) -> Tensor:
    """The quantity of each row's target class, (N,).

    Args:
        logits: Float (N, classes).
        targets: int64 (N,).
        output: Which quantity.
    """
    return scores(logits, output).gather(1, targets[:, None]).squeeze(1)


class Scored(torch.nn.Module):
    """The model with its output replaced by the explained quantity of every class.

    For libraries that pick the target column themselves.
    """

    def __init__(self, model: ModelUnderTest, output: Output) -> None:
        """Wrap a model.

        Args:
            model: The model to explain.
            output: Which quantity to return.
        """
        super().__init__()
        self.model = model.module
        self.gradient_point = model.gradient_point
        self.output: Output = output

    def forward(self, images: Tensor) -> Tensor:
        """The quantity of every class, (N, classes).

        Args:
            images: Float32 (N, C, H, W) in [0, 1].
        """
        if images.requires_grad:
            images = self.gradient_point.of(images)
        return scores(self.model(images), self.output)
