"""Adversarial training of a detector: its own losses on images that a few steps of gradient ascent reach."""

from __future__ import annotations

from collections.abc import Iterator

from audit.core.ascent import projected_step
from audit.core.pass_count import PassCount
from audit.core.registry import recipe
from audit.training.detection import DetectionModule, loss_gradient
from audit.training.inner_attack import PerturbationStart, frozen_eval, initial_perturbation, store_perturbation
from audit.training.step import Objective, StepOutput, TrainingStep


@recipe(
    reference="arXiv:1907.10310",
    adversarial=True,
    task="detection",
    passes=lambda settings, shape: PassCount(settings["steps"] + 2, settings["steps"] + 2),
)
def detector_pgd(
    net: DetectionModule,
    step: TrainingStep,
    *,
    steps: int = 1,
    relative_step: float = 1.25,
    start: PerturbationStart = "previous",
    clean_share: float = 0.3,
) -> Iterator[Objective]:
    """Descend a detector's losses on attacked images, and with a share of the weight on clean ones.

    The attack raises the sum of the losses, of classes and of places, by projected gradient ascent; Zhang and Wang 2019
    (arXiv:1907.10310, equation 6) raise the larger of the two in turn.

    Args:
        net: The detector.
        step: The batch and the adversary.
        steps: Gradient steps of the inner attack.
        relative_step: Length of a step in units of eps.
        start: `previous` goes on from where the attack left the same image in the epoch before (see `fgsm-rs`).
        clean_share: Weight of the clean images' loss, in [0, 1).

    Yields:
        One objective.
    """
    threat = step.adversary
    adversarial = initial_perturbation(step, start)
    size = relative_step * threat.eps
    with frozen_eval(net):
        for _ in range(steps):
            gradient = loss_gradient(net, adversarial, step.objects)
            adversarial = projected_step(adversarial, step.images, gradient, threat, size, direction="unconstrained")
    store_perturbation(step, start, adversarial)

    def objective() -> StepOutput:
        loss = (1 - clean_share) * net.losses(adversarial, step.objects).mean()
        if clean_share:
            loss = loss + clean_share * net.losses(step.images, step.objects).mean()
        return StepOutput(loss)

    yield objective
