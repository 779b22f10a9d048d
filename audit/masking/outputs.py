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
    """`output` of every class, (N, classes)."""
    if output == "probability":
        return logits.softmax(1)
    return logits.log_softmax(1) if output == "log-probability" else logits


def score(logits: Logits, targets: Labels, output: Output) -> Tensor:
    """`output` of each row's target class, (N,)."""
    return scores(logits, output).gather(1, targets[:, None]).squeeze(1)


class Scored(torch.nn.Module):
    """The model with its output replaced by the explained quantity for every class, for libraries that pick
    the target column themselves."""

    def __init__(self, model: ModelUnderTest, output: Output) -> None:
        super().__init__()
        self.model = model.module
        self.output: Output = output

    def forward(self, images: Tensor) -> Tensor:
        """Scores (N, classes)."""
        return scores(self.model(images), self.output)
