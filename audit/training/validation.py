"""Accuracies on held-out images after each epoch, which choose the best epoch."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from audit.core.ascent import projected_step
from audit.core.seeding import Generators
from audit.core.threat import ThreatModel
from audit.core.types import Batch, Logits
from audit.training.certified import proven_share
from audit.training.inner_attack import frozen_eval, gradient_of
from audit.training.step import PerExampleLoss

_BATCH = 128
_FIRST = ("proven_accuracy", "robust_accuracy", "robust_map")


@dataclass(frozen=True)
class Validator:
    """Measures accuracies on held-out images, under attack too where there is an adversary.

    The attack starts from the same random points in every epoch, so that epochs differ by their weights alone.

    Attributes:
        held_out: The images on the net's device.
        threat: The adversary, if any.
        loss: The loss that the attack ascends.
        seed: The seed of the random starts.
        examples: How many of the first images are attacked.
        steps: Gradient steps of the attack.
        proves: Whether the share proven right is measured too, on the same images.
    """

    held_out: Batch
    threat: ThreatModel | None
    loss: PerExampleLoss
    seed: int
    examples: int
    steps: int
    proves: bool = False

    def __call__(self, net: nn.Module) -> dict[str, float]:
        """Measure the accuracies of a net.

        Args:
            net: Gives logits (N, classes) of images in [0, 1].

        Returns:
            `clean_accuracy`, `robust_accuracy` where there is an adversary, and `proven_accuracy` where the recipe
            trains for proofs, in [0, 1].
        """
        with frozen_eval(net):
            scores = {"clean_accuracy": held_out_accuracy(net, self.held_out)}
            if self.threat is not None:
                attacked = self.held_out.select(torch.arange(min(self.examples, len(self.held_out)), device="cpu"))
                scores["robust_accuracy"] = accuracy_under_pgd(
                    net, attacked, self.threat, self.loss, seed=self.seed, steps=self.steps
                )
                if self.proves:
                    scores["proven_accuracy"] = proven_share(net, attacked.images, attacked.labels, self.threat)
        return scores


def selection_score(scores: dict[str, float]) -> tuple[float, float]:
    """Order epochs: by proven accuracy where it is measured, by robust accuracy or mAP else, then by the clean one.

    Args:
        scores: What a `Validator` measured.

    Returns:
        A key that is largest for the best epoch.
    """
    clean = scores["clean_map"] if "clean_map" in scores else scores["clean_accuracy"]
    first = next((scores[name] for name in _FIRST if name in scores), clean)
    return first, clean


def held_out_accuracy(net: nn.Module, batch: Batch) -> float:
    """Measure the share of examples that a net classifies right.

    Args:
        net: Gives logits (N, classes) of images in [0, 1].
        batch: Images and labels on its device.

    Returns:
        The share, in [0, 1].
    """
    correct = [_is_correct(net, batch.images[rows], batch.labels[rows]).sum() for rows in _slices(len(batch))]
    return float(torch.stack(correct).sum()) / len(batch)


def accuracy_under_pgd(
    net: nn.Module,
    batch: Batch,
    threat: ThreatModel,
    loss: PerExampleLoss,
    *,
    seed: int,
    steps: int,
    relative_step: float = 0.25,
) -> float:
    """Measure the share of examples that stay right at every point of a projected gradient ascent.

    Examples that are misclassified on the way leave the batch.

    Args:
        net: Gives logits (N, classes) of images in [0, 1].
        batch: Images, labels and ids on its device.
        threat: The norm and the radius eps of the balls.
        loss: The loss to ascend.
        seed: The seed of the random starts.
        steps: Number of gradient steps.
        relative_step: Length of a step in units of eps.

    Returns:
        The share, in [0, 1].
    """
    generators = Generators.of(batch.ids, seed=seed, purpose="training probe", device=batch.images.device)
    robust = 0
    for rows in _slices(len(batch)):
        index = torch.arange(len(batch), device=batch.labels.device)[rows]
        chunk = batch.select(index), generators.select(index)
        robust += _count_robust(net, *chunk, threat, loss, steps, relative_step * threat.eps)
    return robust / len(batch)


def _slices(total: int) -> list[slice]:
    return [slice(start, start + _BATCH) for start in range(0, total, _BATCH)]


def _count_robust(
    net: nn.Module,
    batch: Batch,
    generators: Generators,
    threat: ThreatModel,
    loss: PerExampleLoss,
    steps: int,
    step_size: float,
) -> int:
    origin, labels = batch.images, batch.labels
    correct = _is_correct(net, origin, labels)
    origin, labels = origin[correct], labels[correct]
    images = threat.random_start(origin, generators.select(correct))
    for _ in range(steps):
        if len(images) == 0:
            return 0
        logits, gradient = gradient_of(net, images, partial(_losses, loss, labels))
        images = projected_step(images, origin, gradient, threat, step_size, direction="unconstrained")
        correct = logits.argmax(1) == labels
        images, origin, labels = images[correct], origin[correct], labels[correct]
    return int(_is_correct(net, images, labels).sum()) if len(images) else 0


def _losses(loss: PerExampleLoss, labels: Tensor, logits: Logits) -> Tensor:
    return loss(logits, labels)


def _is_correct(net: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    with torch.no_grad():
        logits: Logits = net(images)
    return logits.argmax(1) == labels
