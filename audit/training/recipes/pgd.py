"""Adversarial training with projected gradient ascent (Madry et al. 2018)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from torch import nn

from audit.core.pass_count import PassCount
from audit.core.registry import recipe
from audit.core.threat import ThreatModel
from audit.training.inner_attack import PerturbationStart, initial_perturbation, inner_pgd, store_perturbation
from audit.training.step import Objective, TrainingStep, classification_step


@recipe(
    reference="arXiv:1706.06083",
    adversarial=True,
    passes=lambda settings, shape: PassCount(settings["steps"] + 1, settings["steps"] + 1),
)
def pgd(
    net: nn.Module,
    step: TrainingStep,
    *,
    steps: int = 3,
    relative_step: float = 0.5,
    relative_eps: float = 1.0,
    start: PerturbationStart = "random",
) -> Iterator[Objective]:
    """Descend the loss of images that a few steps of projected gradient ascent reach.

    Madry et al. 2018, Eq. 2.1 (arXiv:1706.06083).

    Args:
        net: Gives logits (N, classes) of images in [0, 1].
        step: The batch and the adversary.
        steps: Gradient steps of the inner attack.
        relative_step: Length of a step in units of the radius of the ball that is attacked.
        relative_eps: That radius in units of eps. A little more than 1 gives more robustness within eps for some clean
            accuracy.
        start: `previous` goes on from where the attack left the same image in the epoch before (see `fgsm-rs`); two
            steps then do more than three from a random point.

    Yields:
        One objective.
    """
    if relative_eps != 1.0:
        step = replace(step, threat=_with_eps(step.adversary, relative_eps * step.adversary.eps))
    threat = step.adversary
    adversarial = inner_pgd(
        net,
        step.images,
        initial_perturbation(step, start),
        threat,
        lambda logits: step.loss(logits, step.labels),
        steps=steps,
        step_size=relative_step * threat.eps,
    )
    store_perturbation(step, start, adversarial)
    yield lambda: classification_step(net, adversarial, step)


def _with_eps(threat: ThreatModel, eps: float) -> ThreatModel:
    """The ball of another radius, no larger than all images in linf."""
    return replace(threat, eps=min(eps, 1.0) if threat.norm == "linf" else eps)
