"""What a recipe is given, and what it gives back: the objective of one optimiser step."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

from torch import Tensor, nn

from audit.core.seeding import Generators
from audit.core.threat import ThreatModel
from audit.core.types import Images, Labels, Logits

Loss: TypeAlias = Callable[[Logits, Labels], Tensor]
"""`(logits, labels) -> losses (N,)`: one value an example, never reduced."""


class StepOutput(NamedTuple):
    """`loss` the scalar to descend; `logits` (N, classes) those the training accuracy is read from."""

    loss: Tensor
    logits: Logits


Objective: TypeAlias = Callable[[], StepOutput]
"""Evaluates the loss with the net's weights of that moment: the loop may call it again with perturbed weights."""

Recipe: TypeAlias = Callable[..., Iterator[Objective]]
"""`(net, lesson, *, settings)` yields one objective for every optimiser step to take on the lesson."""


@dataclass(frozen=True)
class TrainingStep:
    """A training batch on the device of the net.

    `images` float32 in [0, 1], augmented; `generators` one an example, fresh each epoch; `loss` the
    classification loss; `threat` the adversary (None for the standard recipe); `memory` tensors a recipe
    keeps from one batch to the next, saved in every checkpoint; `positions` int64 (N,) which of the `total` training
    images these are; `teacher` the model to learn from, for distillation.
    """

    images: Images
    labels: Labels
    generators: Generators
    loss: Loss
    threat: ThreatModel | None
    memory: dict[str, Tensor]
    positions: Tensor
    total: int
    teacher: Callable[[Images], Logits] | None = None

    @property
    def adversary(self) -> ThreatModel:
        """The threat model, which the loop has checked to be there for adversarial recipes."""
        assert self.threat is not None
        return self.threat


def classification_step(net: nn.Module, images: Images, lesson: TrainingStep) -> StepOutput:
    """The mean classification loss of `images` under the lesson's labels."""
    logits = net(images)
    return StepOutput(lesson.loss(logits, lesson.labels).mean(), logits.detach())
