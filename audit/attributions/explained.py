"""What an attribution explains: which output, against which baseline, over which segments."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor

from audit.models.under_test import ModelUnderTest
from audit.seeding import Generators
from audit.types import Attributions, Images, Labels, Logits, Segments

Output = Literal["logit", "probability", "log-probability"]


@dataclass(frozen=True)
class Explained:
    """The question put to a method. `targets` int64 (N,), the class explained of each image; `output` the
    quantity; `baseline` float32 (N, C, H, W), the reference input; `segments` int64 (N, H, W) numbered
    0..n-1 each, or None for methods by pixel; `generators` one an image."""

    targets: Labels
    output: Output
    baseline: Images
    generators: Generators
    segments: Segments | None = None

    def select(self, index: Tensor) -> Explained:
        """The question for the images at `index`."""
        return Explained(
            self.targets[index],
            self.output,
            self.baseline[index],
            self.generators.select(index),
            None if self.segments is None else self.segments[index],
        )

    def score(self, logits: Logits, targets: Labels | None = None) -> Tensor:
        """The explained quantity of each row, (M,); `targets` int64 (M,) when rows are not the images."""
        return score(logits, self.targets if targets is None else targets, self.output)


@dataclass(frozen=True)
class Explanation:
    """What a method answers: `attributions` (N, C or 1, H, W) float32; `notes` on each image's quality
    (LIME's R2, the completeness residual), name to (N,) values."""

    attributions: Attributions
    quality: dict[str, Tensor] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)


def score(logits: Logits, targets: Labels, output: Output) -> Tensor:
    """`output` of each row's target class, (N,)."""
    if output == "probability":
        logits = logits.softmax(1)
    elif output == "log-probability":
        logits = logits.log_softmax(1)
    return logits.gather(1, targets[:, None]).squeeze(1)


class Scored(torch.nn.Module):
    """The model with its output replaced by the explained quantity for every class, for libraries that pick
    the target column themselves."""

    def __init__(self, model: ModelUnderTest, output: Output) -> None:
        super().__init__()
        self.model = model.module
        self.output = output

    def forward(self, images: Images) -> Tensor:
        """Scores (N, classes)."""
        logits: Tensor = self.model(images)
        if self.output == "probability":
            return logits.softmax(1)
        return logits.log_softmax(1) if self.output == "log-probability" else logits
