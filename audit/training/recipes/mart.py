"""Misclassification-aware adversarial training, MART (Wang et al. 2020)."""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor, nn
from torch.nn.functional import one_hot

from audit.core.registry import recipe
from audit.core.types import Labels, Logits
from audit.training.inner_attack import inner_pgd
from audit.training.step import Objective, StepOutput, TrainingStep

_MIN_PROBABILITY = 1e-12


@recipe(reference="https://openreview.net/forum?id=rklOg6EFwS", adversarial=True)
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
    runner_up = logits.softmax(1).masked_fill(is_label, 0).amax(1)
    return -(1 - runner_up).clamp(min=_MIN_PROBABILITY).log()


def weighted_divergence(clean: Logits, attacked: Logits, labels: Labels) -> Tensor:
    """Compute KL(clean || attacked) times 1 minus the probability that the clean image gives its label.

    Args:
        clean: Logits (N, classes) of clean images.
        attacked: Logits (N, classes) of the same images attacked.
        labels: True classes, int64 (N,).

    Returns:
        Losses, float (N,).
    """
    log_clean = clean.log_softmax(1)
    divergence = (log_clean.exp() * (log_clean - attacked.log_softmax(1))).sum(1)
    return divergence * (1 - log_clean.exp().gather(1, labels[:, None]).squeeze(1))
