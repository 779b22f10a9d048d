"""Misclassification-aware adversarial training, MART (Wang et al. 2020)."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn.functional import one_hot

from audit.core.pass_count import PassCount
from audit.core.registry import recipe
from audit.core.types import Labels, Logits
from audit.training.inner_attack import inner_pgd
from audit.training.step import Objective, StepOutput, TrainingStep, kl_divergence


@recipe(
    reference="https://openreview.net/forum?id=rklOg6EFwS",
    adversarial=True,
    passes=lambda settings, shape: PassCount(settings["steps"] + 2, settings["steps"] + 2),
)
def mart(
    net: nn.Module, step: TrainingStep, *, weight: float = 5.0, steps: int = 3, relative_step: float = 0.5
) -> Iterator[Objective]:
    """Descend a boosted loss of attacked images plus a divergence that weighs misclassified images more.

    Wang et al. 2020, "Improving adversarial robustness requires revisiting misclassified examples": the boosted cross
    entropy (BCE) plus lambda times a weighted KL divergence.

    Args:
        net: Gives logits (N, classes) of images in [0, 1].
        step: The batch and the adversary.
        weight: The factor on the divergence (lambda in the paper), at least 0.
        steps: Gradient steps of the inner attack.
        relative_step: Length of a step in units of eps.

    Yields:
        One objective.
    """
    threat = step.adversary
    adversarial = inner_pgd(
        net,
        step.images,
        threat.random_start(step.images, step.generators),
        threat,
        lambda logits: step.loss(logits, step.labels),
        steps=steps,
        step_size=relative_step * threat.eps,
    )

    def objective() -> StepOutput:
        clean, attacked = net(step.images), net(adversarial)
        boosted = step.loss(attacked, step.labels) + margin_loss(attacked, step.labels)
        divergence = weighted_divergence(clean, attacked, step.labels)
        return StepOutput((boosted + weight * divergence).mean(), attacked.detach())

    yield objective


def margin_loss(logits: Logits, labels: Labels) -> Tensor:
    """Compute the margin term of the boosted cross entropy, -log(1 - the largest probability of a wrong class).

    Args:
        logits: Logits (N, classes) of attacked images.
        labels: True classes, int64 (N,).

    Returns:
        Losses, float (N,).
    """
    is_label = one_hot(labels, logits.shape[1]).bool()
    runner_up = logits.masked_fill(is_label, -torch.inf).argmax(1, keepdim=True)
    others = logits.scatter(1, runner_up, -torch.inf)
    return logits.logsumexp(1) - others.logsumexp(1)


def weighted_divergence(clean: Logits, attacked: Logits, labels: Labels) -> Tensor:
    """Compute KL(clean || attacked) times 1 minus the probability that the clean image gives its label.

    Args:
        clean: Logits (N, classes) of clean images.
        attacked: Logits (N, classes) of the same images attacked.
        labels: True classes, int64 (N,).

    Returns:
        Losses, float (N,).
    """
    label_probability = clean.softmax(1).gather(1, labels[:, None]).squeeze(1)
    return kl_divergence(clean, attacked) * (1 - label_probability)
