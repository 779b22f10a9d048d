"""IBP: training for proofs by interval bounds, with the fast warm-up of Shi et al."""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor, nn

from audit.bounds.graph import BoundGraph
from audit.bounds.propagate import Values
from audit.bounds.region import Region
from audit.core.pass_count import PassCount
from audit.core.registry import recipe
from audit.training.certified import bound_graph, certified_loss, ramp, worst_logits
from audit.training.step import Objective, TrainingStep


@recipe(
    reference="arXiv:2103.17268",
    adversarial=True,
    proves=True,
    passes=lambda settings, shape: PassCount(2, 1),
    expected=lambda settings, shape: PassCount(1, 0),
)
def ibp(
    net: nn.Module, step: TrainingStep, *, warmup: float = 0.02, grown: float = 0.5, penalty: float = 0.5
) -> Iterator[Objective]:
    """Descend the loss of the worst logits that interval bounds allow in the ball, whose radius grows.

    Gowal et al. 2018 (arXiv:1810.12715), with the initial weights, the regularisers and the schedule of Shi et al.
    2021. The net is trained in eval mode of batch norm and dropout.

    Args:
        net: Gives logits (N, classes) of images in [0, 1].
        step: The batch and the adversary.
        warmup: Share of the training on clean images alone, in [0, 1).
        grown: Share of the training after which the radius is the adversary's, above `warmup`, up to 1.
        penalty: Factor on the width of intervals while the radius grows.

    Yields:
        One objective.
    """
    bound_graph(net, step.images)  # A net that bounds do not know is refused before anything is learnt.
    now = ramp(step, warmup, grown)

    def bounded(_: Tensor, graph: BoundGraph, values: Values, region: Region) -> Tensor:
        return step.loss(worst_logits(graph, values, region, step.labels), step.labels).mean()

    yield lambda: certified_loss(net, step, step.images, now, penalty, bounded)
