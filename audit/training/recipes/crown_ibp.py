"""CROWN-IBP: training for proofs by linear relaxation over interval bounds, which end as intervals alone."""

from __future__ import annotations

from collections.abc import Iterator

from torch import nn

from audit.bounds.propagate import interval_values
from audit.core.registry import recipe
from audit.training.certified import ball, bound_graph, ramp, rescale_untrained, width_penalty, worst_logits
from audit.training.step import Objective, StepOutput, TrainingStep


@recipe(reference="arXiv:1906.06316", adversarial=True, proves=True)
def crown_ibp(
    net: nn.Module, step: TrainingStep, *, warmup: float = 0.02, grown: float = 0.5, penalty: float = 0.5
) -> Iterator[Objective]:
    """Descend a mixture of the worst logits by linear relaxation and by intervals: from the first to the second.

    Zhang et al. 2020: the weight of the linear bound falls from 1 to 0 as the radius grows.

    Args:
        net: Gives logits (N, classes) of images in [0, 1].
        step: The batch and the adversary.
        warmup: Share of the training on clean images alone, in [0, 1).
        grown: Share of the training after which the radius is the adversary's, above `warmup`, up to 1.
        penalty: Factor on the width of intervals while the radius grows.

    Yields:
        One objective.
    """
    graph, now = bound_graph(net, step.images), ramp(step, warmup, grown)

    def objective() -> StepOutput:
        clean = net(step.images)
        loss = step.loss(clean, step.labels).mean()
        if rescale_untrained(net, step, loss, clean.shape[1]):
            clean = net(step.images)
            loss = step.loss(clean, step.labels).mean()
        region = ball(step.images, step.adversary, max(now.eps, 1e-6))
        values = interval_values(graph, region, rounding=False)
        if now.share > 0:
            worst = worst_logits(graph, values, region, step.labels)
            if now.share < 1:
                linear = worst_logits(graph, values, region, step.labels, linear=True)
                worst = now.share * worst + (1 - now.share) * linear
            loss = step.loss(worst, step.labels).mean()
        if now.share < 1:
            loss = loss + penalty * (1 - now.share) * width_penalty(graph, values)
        return StepOutput(loss, clean.detach())

    yield objective
