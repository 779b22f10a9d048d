"""What the loop hands to a recipe for one batch, and what the recipe hands back."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

from torch import Tensor, nn

from audit.core.objects import Objects
from audit.core.seeding import Generators
from audit.core.threat import ThreatModel
from audit.core.types import Images, Labels, Logits

PerExampleLoss: TypeAlias = Callable[[Logits, Labels], Tensor]
"""`(logits, labels) -> losses`, float (N,): one value an example, not reduced."""


class StepOutput(NamedTuple):
    """The value of an objective.

    Attributes:
        loss: The loss to descend, a scalar with a graph.
        logits: Logits (N, classes) that the training accuracy is read from, without a graph; None from a detector.
    """

    loss: Tensor
    logits: Logits | None = None


Objective: TypeAlias = Callable[[], StepOutput]
"""Evaluates the loss at the net's present weights; the loop may call it again with perturbed weights."""

Recipe: TypeAlias = Callable[..., Iterator[Objective]]
"""`(net, step, *, settings)` yields one objective for each optimiser step to take on the batch of `step`."""


@dataclass(frozen=True)
class TrainingStep:
    """A training batch, on the device of the net, and what a recipe may use beside it.

    Attributes:
        images: Augmented images, float32 (N, C, H, W) in [0, 1].
        labels: Their classes, int64 (N,).
        generators: One random generator an example, fresh in each epoch.
        loss: The classification loss of each example.
        threat: The adversary; None for a recipe without one.
        recipe_state: Tensors that the recipe keeps from one batch to the next; they are part of every checkpoint.
        indices: Which of the `total` training images these are, int64 (N,).
        total: The number of training images.
        teacher: For distillation, the logits (N, classes) of another model on images (N, C, H, W) in [0, 1].
        progress: Share of the training that is done, in [0, 1).
        keeps_perturbations: Whether the images are the same in each epoch and the memory holds a perturbation of each.
        objects: What is to be found in each image; empty for a classifier.
    """

    images: Images
    labels: Labels
    generators: Generators
    loss: PerExampleLoss
    threat: ThreatModel | None
    recipe_state: dict[str, Tensor]
    indices: Tensor
    total: int
    teacher: Callable[[Images], Logits] | None = None
    progress: float = 0.0
    keeps_perturbations: bool = False
    objects: tuple[Objects, ...] = ()

    @property
    def adversary(self) -> ThreatModel:
        """The threat model of a recipe that has one."""
        assert self.threat is not None
        return self.threat


def classification_step(net: nn.Module, images: Images, step: TrainingStep) -> StepOutput:
    """Evaluate the mean classification loss of `images` under the labels of `step`.

    Args:
        net: Gives logits (N, classes) of images.
        images: Images (N, C, H, W) in [0, 1], one for each label of `step`.
        step: The labels and the loss.

    Returns:
        The mean loss, and the logits.
    """
    logits = net(images)
    return StepOutput(step.loss(logits, step.labels).mean(), logits.detach())


def kl_divergence(reference: Logits, logits: Logits) -> Tensor:
    """Compute KL(softmax(reference) || softmax(logits)) of each row.

    Both sides are logits: a probability that underflows to 0 has no logarithm, and its gradient would be NaN.

    Args:
        reference: Logits (N, classes).
        logits: Logits (N, classes).

    Returns:
        Divergences in nats, float (N,).
    """
    log_reference = reference.log_softmax(1)
    return (log_reference.exp() * (log_reference - logits.log_softmax(1))).sum(1)
