"""MART: misclassified examples count for more."""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor, nn
from torch.nn.functional import one_hot

from audit.core.registry import recipe
from audit.core.types import Labels, Logits
from audit.training.inner_attack import inner_pgd
from audit.training.step import Objective, StepOutput, TrainingStep

_SMALLEST = 1e-12


@recipe(reference="https://openreview.net/forum?id=rklOg6EFwS", adversarial=True)
def mart(
    net: nn.Module, lesson: TrainingStep, *, weight: float = 5.0, steps: int = 3, relative_step: float = 0.5
) -> Iterator[Objective]:
    """Descend a boosted loss on attacked images, with agreement asked for most where the clean image is misread
    (Wang et al. 2020). `weight` is the paper's lambda; `relative_step` is in units of eps."""
    threat = lesson.adversary
    adversarial = inner_pgd(
        net,
        lesson.images,
        threat.random_start(lesson.images, lesson.generators),
        threat,
        lambda logits: lesson.loss(logits, lesson.labels),
        steps=steps,
        step_size=relative_step * threat.eps,
    )

    def objective() -> StepOutput:
        clean, attacked = net(lesson.images), net(adversarial)
        boosted = lesson.loss(attacked, lesson.labels) + margin_loss(attacked, lesson.labels)
        misread = misread_divergence(clean, attacked, lesson.labels)
        return StepOutput((boosted + weight * misread).mean(), attacked.detach())

    yield objective


def margin_loss(logits: Logits, labels: Labels) -> Tensor:
    """-log(1 - the largest probability of a wrong class), (N,)."""
    own = one_hot(labels, logits.shape[1]).bool()
    rival = logits.softmax(1).masked_fill(own, 0).amax(1)
    return -(1 - rival).clamp(min=_SMALLEST).log()


def misread_divergence(clean: Logits, attacked: Logits, labels: Labels) -> Tensor:
    """KL(clean || attacked) times how little probability the clean image gives its label, (N,)."""
    told = clean.log_softmax(1)
    divergence = (told.exp() * (told - attacked.log_softmax(1))).sum(1)
    return divergence * (1 - told.exp().gather(1, labels[:, None]).squeeze(1))
