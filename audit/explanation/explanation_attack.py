"""Moving an image so that its explanation moves and its prediction does not."""

from __future__ import annotations

import torch
from torch import Tensor, fx, nn
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel

from audit.core.ascent import projected_step
from audit.core.seeding import Generators
from audit.core.threat import ThreatModel
from audit.core.types import Images, Labels, Logits
from audit.explanation.traced_net import normalised, target_logits, with_module_activations
from audit.models.batching import in_batches
from audit.models.under_test import ModelUnderTest

SHARPNESS = 30.0
"""The beta of the softplus in place of ReLU, whose second derivative is zero."""


def noise_keeping_label(
    model: ModelUnderTest, images: Images, labels: Labels, threat: ThreatModel, generators: Generators, tries: int = 4
) -> Images:
    """The control: a random point of the ball that keeps the prediction, (N, C, H, W).

    Args:
        model: The model under attack.
        images: Float32 (N, C, H, W) in [0, 1].
        labels: The prediction to keep, int64 (N,).
        threat: The ball around each image.
        generators: One random generator an image.
        tries: Points to draw at most; the image itself where none of them keeps the prediction.
    """
    noisy = images.clone()
    pending = torch.ones(len(images), dtype=torch.bool, device=images.device)
    for attempt in range(tries):
        moved = threat.random_start(images, generators.fork(attempt))
        take = pending & (model.predictions(moved) == labels)
        noisy = torch.where(_column(take), moved, noisy)
        pending = pending & ~take
    return noisy


def pgd_keeping_label(
    model: ModelUnderTest, images: Images, labels: Labels, threat: ThreatModel, steps: int = 10
) -> Images:
    """PGD on the cross-entropy, stopped just short of the boundary, (N, C, H, W).

    Each image's last iterate that keeps the prediction, moved on towards the next one as far as that holds.

    Args:
        model: The model under attack.
        images: Float32 (N, C, H, W) in [0, 1].
        labels: The prediction to keep and to move away from, int64 (N,).
        threat: The ball around each image.
        steps: Steps of size 2.5 eps / steps.
    """

    def loss(logits: Logits, targets: Labels) -> Tensor:
        return functional.cross_entropy(logits, targets, reduction="none")

    size = 2.5 * threat.eps / steps
    current = accepted = beyond = images
    for _ in range(steps):
        gradient = model.loss_gradient(current, labels, loss).gradient
        following = projected_step(current, images, gradient, threat, size, direction="unconstrained")
        holds = _column(model.predictions(following) == labels)
        beyond = torch.where(holds, following, torch.where(_column(_same(current, accepted)), following, beyond))
        accepted = torch.where(holds, following, accepted)
        current = following
    return _last_accepted(model, accepted, beyond, labels)


def _last_accepted(
    model: ModelUnderTest, accepted: Images, beyond: Images, labels: Labels, halvings: int = 6
) -> Images:
    """The point furthest on the way from `accepted` to `beyond` that bisection finds still predicted as `labels`."""
    for _ in range(halvings):
        middle = (accepted + beyond) / 2
        holds = _column(model.predictions(middle) == labels)
        accepted, beyond = torch.where(holds, middle, accepted), torch.where(holds, beyond, middle)
    return accepted


def manipulate_explanation(
    model: ModelUnderTest, images: Images, labels: Labels, threat: ThreatModel, generators: Generators, steps: int = 20
) -> Images:
    """Ascend on the distance of the gradient's direction from the clean one, in the ball, at constant prediction.

    The gradient is taken on a copy whose ReLUs are softplus (Dombrowski et al., arXiv:1906.07983); the prediction is
    the model's own. Of the iterates that keep it, the one whose map went furthest, (N, C, H, W).

    Args:
        model: The model under attack.
        images: Float32 (N, C, H, W) in [0, 1].
        labels: The prediction to keep and whose logit's gradient to turn, int64 (N,).
        threat: The ball around each image.
        generators: One random generator an image.
        steps: Steps of size 2.5 eps / steps.

    Raises:
        NotApplicable: torch.fx cannot trace the net.
    """
    net = smoothed(with_module_activations(model.net))
    clean = _directions(model, net, images, labels)
    current = threat.project(threat.random_start(images, generators) * 0.2 + images * 0.8, images)
    size = 2.5 * threat.eps / steps
    best, furthest = images, torch.zeros(len(images), device=images.device)
    for _ in range(steps):
        gradient, distance = _ascent(model, net, current, labels, clean)
        better = (model.predictions(current) == labels) & (distance > furthest)
        best = torch.where(_column(better), current, best)
        furthest = torch.where(better, distance, furthest)
        current = projected_step(current, images, gradient, threat, size, direction="unconstrained")
    return best


def smoothed(net: fx.GraphModule) -> fx.GraphModule:
    """Replace every ReLU of a traced net by softplus, in place.

    Args:
        net: The traced net, which is changed.

    Returns:
        The same net.
    """
    for name, layer in list(net.named_modules()):
        if isinstance(layer, nn.ReLU):
            net.add_submodule(name, nn.Softplus(beta=SHARPNESS))
    return net


def _ascent(
    model: ModelUnderTest, net: fx.GraphModule, images: Images, labels: Labels, clean: Tensor
) -> tuple[Images, Tensor]:
    """The gradient of the distance between directions, and the distance (0 the same, 2 opposite)."""

    def batch(rows: slice) -> tuple[Images, Tensor]:
        # The fused kernels of attention have no second derivative.
        with torch.enable_grad(), sdpa_kernel(SDPBackend.MATH):
            leaf = images[rows].detach().clone().requires_grad_(True)
            direction = _direction(model, net, leaf, labels[rows], create_graph=True)
            distance = 1 - (direction * clean[rows]).sum(1)
            if not distance.requires_grad:  # a linear model: its gradient cannot be moved
                return torch.zeros_like(leaf), distance
            (gradient,) = torch.autograd.grad(distance.sum(), leaf)
        return gradient, distance.detach()

    gradients, distances = (torch.cat(c) for c in zip(*in_batches(len(images), model.layout, batch), strict=True))
    return gradients, distances


def _directions(model: ModelUnderTest, net: fx.GraphModule, images: Images, labels: Labels) -> Tensor:
    def batch(rows: slice) -> Tensor:
        with torch.enable_grad():
            leaf = images[rows].detach().clone().requires_grad_(True)
            return _direction(model, net, leaf, labels[rows], create_graph=False).detach()

    return torch.cat(list(in_batches(len(images), model.layout, batch)))


def _direction(
    model: ModelUnderTest, net: fx.GraphModule, leaf: Images, labels: Labels, *, create_graph: bool
) -> Tensor:
    """The gradient of the target's logit at unit length, (N, C x H x W)."""
    outputs = target_logits(model, net(normalised(model, leaf)), labels)
    (gradient,) = torch.autograd.grad(outputs.sum(), leaf, create_graph=create_graph)
    flat = gradient.flatten(1)
    return functional.normalize(flat, dim=1)


def _same(first: Images, second: Images) -> Tensor:
    return (first == second).flatten(1).all(1)


def _column(flags: Tensor) -> Tensor:
    return flags.view(-1, 1, 1, 1)
