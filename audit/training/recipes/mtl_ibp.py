"""MTL-IBP: training for proofs with an attack's loss beside the bound's (De Palma et al. 2024)."""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor, nn

from audit.bounds.graph import BoundGraph
from audit.bounds.propagate import Values
from audit.bounds.region import Region
from audit.core.pass_count import PassCount
from audit.core.registry import recipe
from audit.core.threat import ThreatModel
from audit.training.certified import bound_graph, certified_loss, ramp, worst_logits
from audit.training.inner_attack import inner_pgd
from audit.training.step import Objective, TrainingStep


@recipe(
    reference="arXiv:2305.13991",
    adversarial=True,
    proves=True,
    passes=lambda settings, shape: PassCount(settings["steps"] + 2, settings["steps"] + 2),
    expected=lambda settings, shape: PassCount(settings["steps"] + 1, settings["steps"] + 1),
)
def mtl_ibp(
    net: nn.Module,
    step: TrainingStep,
    *,
    bound_share: float = 0.5,
    steps: int = 1,
    relative_step: float = 1.25,
    warmup: float = 0.02,
    grown: float = 0.5,
    penalty: float = 0.5,
) -> Iterator[Objective]:
    """Descend (1 - a) times the loss under attack plus a times the loss of the worst logits by intervals.

    De Palma et al. 2024. With a = 1 it is IBP; a smaller share costs less clean accuracy, and leaves more images
    to branch and bound.

    Args:
        net: Gives logits (N, classes) of images in [0, 1].
        step: The batch and the adversary.
        bound_share: The share a of the bound's loss, in [0, 1].
        steps: Gradient steps of the attack.
        relative_step: Length of a step in units of the radius.
        warmup: Share of the training on clean images alone, in [0, 1).
        grown: Share of the training after which the radius is the adversary's, above `warmup`, up to 1.
        penalty: Factor on the width of intervals while the radius grows.

    Yields:
        One objective.
    """
    bound_graph(net, step.images)  # A net that bounds do not know is refused before anything is learnt.
    now = ramp(step, warmup, grown)
    attacked = step.images
    if now.share > 0 and bound_share < 1:
        threat = ThreatModel(step.adversary.norm, now.eps)

        def losses(logits: Tensor) -> Tensor:
            return step.loss(logits, step.labels)

        start = threat.random_start(step.images, step.generators)
        attacked = inner_pgd(net, step.images, start, threat, losses, steps=steps, step_size=relative_step * threat.eps)

    def bounded(loss: Tensor, graph: BoundGraph, values: Values, region: Region) -> Tensor:
        worst = worst_logits(graph, values, region, step.labels)
        return (1 - bound_share) * loss + bound_share * step.loss(worst, step.labels).mean()

    yield lambda: certified_loss(net, step, attacked, now, penalty, bounded)
