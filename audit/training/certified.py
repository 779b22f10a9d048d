"""What recipes that train for proofs share: worst-case logits by bounds, the growth of eps, initial weights."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from audit.bounds.activations import Activation
from audit.bounds.graph import BoundGraph
from audit.bounds.propagate import Values, interval_values, lower_bound
from audit.bounds.region import Region
from audit.bounds.rules import RULES
from audit.bounds.trace import trace_live
from audit.core.errors import ModelError, NotApplicable, UsageError
from audit.core.threat import ThreatModel
from audit.core.types import Images, Labels
from audit.training.step import StepOutput, TrainingStep

_GRAPHS: WeakKeyDictionary[nn.Module, BoundGraph] = WeakKeyDictionary()
_UNTRAINED = 0.9
"""A loss above this share of the logarithm of the number of classes is that of a net that has learnt nothing."""


class Ramp(NamedTuple):
    """How a training for proofs stands.

    Attributes:
        eps: The radius now.
        share: How far the radius has grown, in [0, 1].
    """

    eps: float
    share: float


def ramp(step: TrainingStep, warmup: float, grown: float) -> Ramp:
    """The radius grows from 0 after the warm-up to that of the adversary: first by a power, then straight.

    The smooth schedule of Shi et al. 2021 (arXiv:2103.17268): the fourth power over the first quarter of the
    growth, continued by its tangent.

    Args:
        step: The batch.
        warmup: Share of the training before the growth begins.
        grown: Share of the training at which it ends.
    """
    at = min(1.0, max(0.0, (step.progress - warmup) / max(1e-9, grown - warmup)))
    middle, power = 0.25, 4
    # c t^4 up to the middle, then its tangent, which reaches 1 at t = 1.
    factor = 1 / (middle**power + power * middle ** (power - 1) * (1 - middle))
    if at <= middle:
        share = factor * at**power
    else:
        share = factor * (middle**power + power * middle ** (power - 1) * (at - middle))
    return Ramp(step.adversary.eps * share, share)


def bound_graph(net: nn.Module, images: Images) -> BoundGraph:
    """The net's operations, recorded once; they follow its weights.

    Args:
        net: The net in training, which gives logits of images in [0, 1].
        images: A batch, for its shape.

    Raises:
        ModelError: The net holds an operation that bounds have no rule for.
        UsageError: A weight of the net that learns is used in a way that bounds cannot follow.
    """
    if net not in _GRAPHS:
        try:
            graph = trace_live(net, images.shape[1:], RULES, torch.float32)
        except NotApplicable as fault:
            raise ModelError(f"The net cannot be trained for proofs: {fault} Choose recipe pgd.") from fault
        logits = interval_values(graph, Region.box(images[:1], images[:1]), rounding=False).boxes[graph.output].low
        named = {name: parameter for name, parameter in net.named_parameters() if parameter.requires_grad}
        reached: Sequence[Tensor | None] = [None] * len(named)
        if logits.requires_grad:
            reached = torch.autograd.grad(logits.sum(), list(named.values()), allow_unused=True)
        missing = [name for name, gradient in zip(named, reached, strict=True) if gradient is None]
        if missing:
            raise UsageError(
                f"Bounds do not reach the weights {', '.join(missing[:3])} of this net, so no recipe for proofs can "
                "train them: take weights out of their parametrisation, or choose recipe pgd."
            )
        _GRAPHS[net] = graph
    return _GRAPHS[net]


def certified_loss(
    net: nn.Module,
    step: TrainingStep,
    images: Images,
    now: Ramp,
    penalty: float,
    bounded: Callable[[Tensor, BoundGraph, Values, Region], Tensor],
    *,
    linear: bool = False,
) -> StepOutput:
    """The objective of a recipe that trains for proofs: its loss over the ball, and the regularisers of the warm-up.

    Args:
        net: The net in training.
        step: The batch and the adversary.
        images: The images whose plain loss is taken, (N, C, H, W): clean, or attacked.
        now: How far the radius has grown.
        penalty: Factor on the width of intervals while it grows.
        bounded: From that loss, the graph, its interval bounds and the region, the loss once there is a radius.
        linear: Whether `bounded` takes linear relaxation, which needs the boxes inside maxima too.
    """
    graph = bound_graph(net, step.images)
    logits = net(images)
    loss = step.loss(logits, step.labels).mean()
    if rescale_untrained(net, step, loss, logits.shape[1]):
        logits = net(images)
        loss = step.loss(logits, step.labels).mean()
    region = ball(step.images, step.adversary, max(now.eps, 1e-6))
    values = interval_values(graph, region, rounding=False, inner=linear)
    if now.share > 0:
        loss = bounded(loss, graph, values, region)
    if now.share < 1:
        loss = loss + penalty * (1 - now.share) * width_penalty(graph, values)
    return StepOutput(loss, logits.detach())


def ball(images: Images, threat: ThreatModel, eps: float) -> Region:
    """The region around each image.

    Args:
        images: (N, C, H, W) in [0, 1].
        threat: Its norm.
        eps: Its radius.
    """
    return Region.ball(images.contiguous(memory_format=torch.channels_last), threat.norm, eps)


def worst_logits(graph: BoundGraph, values: Values, region: Region, labels: Labels, *, linear: bool = False) -> Tensor:
    """Logits no better than any in the region, up to a shift: minus the lower bounds of the label's margins.

    Cross entropy of them is an upper bound on that of every image of the region (arXiv:1711.00851).

    Args:
        graph: The net.
        values: Interval bounds.
        region: The region around each image.
        labels: int64 (N,).
        linear: Whether by linear relaxation (arXiv:1906.06316), else by intervals (arXiv:1810.12715).

    Returns:
        (N, classes), 0 at the label.
    """
    classes = graph.nodes[graph.output].shape[0]
    eye = torch.eye(classes, device=labels.device)
    margins = eye[labels][:, None] - eye[None]
    return -lower_bound(
        graph, values, region, graph.output, margins, boxes_only=not linear, guarded=False
    ).bound.float()


def count_proven(net: nn.Module, images: Images, labels: Labels, threat: ThreatModel) -> int:
    """Count the images that intervals or linear relaxation prove to be classified right in the whole ball.

    Args:
        net: The net in training.
        images: (N, C, H, W) in [0, 1].
        labels: int64 (N,).
        threat: The ball.
    """
    graph, proven = bound_graph(net, images), 0
    with torch.no_grad():
        for rows in torch.split(torch.arange(len(images), device=images.device), 64):
            region = ball(images[rows], threat, threat.eps)
            values = interval_values(graph, region, rounding=False)
            worst = worst_logits(graph, values, region, labels[rows])
            best = torch.minimum(worst, worst_logits(graph, values, region, labels[rows], linear=True))
            others = best.scatter(1, labels[rows][:, None], -torch.inf)
            proven += int((others.amax(1) < 0).sum())
    return proven


def rescale_untrained(net: nn.Module, step: TrainingStep, loss: Tensor, classes: int) -> bool:
    """At the first step, give the weights of an untrained net the size at which intervals neither grow nor shrink.

    Weights of fan-in n are scaled to the standard deviation sqrt(2 pi) / n, at which an interval keeps its width
    through a layer and its ReLU (Shi et al. 2021, arXiv:2103.17268). A net that has learnt is
    left as it is.

    Args:
        net: The net in training.
        step: The batch.
        loss: The mean loss of its clean images.
        classes: Number of classes.

    Returns:
        Whether the weights were scaled.
    """
    if step.progress > 0 or float(loss.detach()) < _UNTRAINED * math.log(classes):
        return False
    with torch.no_grad():
        for parameter in net.parameters():
            if parameter.ndim >= 2:
                fan_in = parameter[0].numel()
                parameter.mul_(math.sqrt(2 * math.pi) / fan_in / parameter.std().clamp(min=1e-12))
    return True


def width_penalty(graph: BoundGraph, values: Values, tolerance: float = 0.5) -> Tensor:
    """How much wider the intervals of later layers are than those of the image, and how unbalanced their ReLUs.

    The two regularisers of the warm-up of Shi et al. 2021 (arXiv:2103.17268): the tightness of intervals
    before activations, and the balance of the means and variances of their centres over active and inactive ReLUs.

    Args:
        graph: The net.
        values: Interval bounds.
        tolerance: Ratios below this are penalised.
    """
    first = values.boxes[0]
    width = (first.high - first.low).mean().detach()
    terms = [_layer_penalty(values, position, width, tolerance) for position in _layers(graph)]
    return torch.stack(terms).mean() / tolerance if terms else width.new_zeros(())


def _layers(graph: BoundGraph) -> Sequence[int]:
    """Inputs of activations that stand for layers: those inside a maximum are left out."""
    nodes = graph.nodes
    inside = {
        i for node in nodes if not isinstance(node.operation, Activation) and len(node.inputs) > 1 for i in node.inputs
    }
    return [nodes[i].inputs[0] for i in graph.activations if i not in inside and nodes[i].inputs[0] in graph.boxed]


def _layer_penalty(values: Values, position: int, width: Tensor, tolerance: float) -> Tensor:
    box = values.boxes[position]
    spread, centre = box.high - box.low, (box.high + box.low) / 2
    tightness = torch.relu(tolerance - width / spread.mean().clamp(min=1e-12))
    on, off = (box.low > 0).float(), (box.high < 0).float()
    balance = _ratio((centre * on).mean(), (-centre * off).mean())
    varied = _ratio(((centre - centre.mean()) ** 2 * on).mean(), ((centre - centre.mean()) ** 2 * off).mean())
    return tightness + torch.relu(tolerance - balance) + torch.relu(tolerance - varied)


def _ratio(a: Tensor, b: Tensor) -> Tensor:
    """The smaller of a / b and b / a; 1 where either is nothing."""
    if float(a.detach()) <= 0 or float(b.detach()) <= 0:
        return a.new_ones(())
    return torch.minimum(a / b, b / a)
