"""Accuracies on held-out images after each epoch, which choose the best epoch."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from audit.core.ascent import projected_step
from audit.core.seeding import Generators
from audit.core.threat import ThreatModel
from audit.core.types import Batch, Logits
from audit.training.certified import count_proven
from audit.training.inner_attack import frozen_eval, gradient_of
from audit.training.step import PerExampleLoss
from audit.training.training_data import HeldOutPart

_FIRST = ("proven_accuracy", "robust_accuracy", "robust_map")


@dataclass(frozen=True)
class Validator:
    """Measures accuracies on held-out images, under attack too where there is an adversary.

    The attack starts from the same random points in every epoch, so that epochs differ by their weights alone.

    Attributes:
        parts: The images that this process looks at, on the net's device.
        total: Adds the counts of all processes.
        held_out: The number of images, those of all processes.
        attacked: How many of those are attacked.
        threat: The adversary, if any.
        loss: The loss that the attack ascends.
        seed: The seed of the random starts.
        steps: Gradient steps of the attack.
        proves: Whether the share proven right is measured too, on the attacked images.
    """

    parts: Sequence[HeldOutPart]
    total: Callable[[Sequence[int]], list[int]]
    held_out: int
    attacked: int
    threat: ThreatModel | None
    loss: PerExampleLoss
    seed: int
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
        clean = robust = proven = 0
        with frozen_eval(net):
            for part in self.parts:
                clean += int(_is_correct(net, part.batch.images, part.batch.labels).sum())
                if self.threat is None or not part.attacked:
                    continue
                batch = part.batch.select(torch.arange(part.attacked, device="cpu"))
                robust += count_under_pgd(net, batch, self.threat, self.loss, seed=self.seed, steps=self.steps)
                if self.proves:
                    proven += count_proven(net, batch.images, batch.labels, self.threat)
        clean, robust, proven = self.total((clean, robust, proven))
        scores = {"clean_accuracy": clean / self.held_out}
        if self.threat is not None:
            scores["robust_accuracy"] = robust / self.attacked
            if self.proves:
                scores["proven_accuracy"] = proven / self.attacked
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


def selection_error(best: float, images: int) -> float:
    """The standard error of the share that chooses among epochs.

    The one-standard-error rule (Breiman et al. 1984, Classification and Regression Trees, section 3.4.3): what is not
    told apart by the error of the estimate is chosen by what is known beforehand. Here that is the last epoch of a
    schedule that ends at a learning rate of zero: its weights have stopped to move, those of an epoch before have not.

    Args:
        best: The highest share so far, in [0, 1].
        images: Number of images that it is a share of.
    """
    return math.sqrt(best * (1 - best) / images)


def count_under_pgd(
    net: nn.Module,
    batch: Batch,
    threat: ThreatModel,
    loss: PerExampleLoss,
    *,
    seed: int,
    steps: int,
    relative_step: float = 0.25,
) -> int:
    """Count the examples that stay right at every point of a projected gradient ascent.

    Examples that are misclassified on the way leave the batch.

    Args:
        net: Gives logits (N, classes) of images in [0, 1].
        batch: Images, labels and ids on its device, as many as are attacked at once.
        threat: The norm and the radius eps of the balls.
        loss: The loss to ascend.
        seed: The seed of the random starts.
        steps: Number of gradient steps.
        relative_step: Length of a step in units of eps.
    """
    generators = Generators.of(batch.ids, seed=seed, purpose="training probe", device=batch.images.device)
    return _count_robust(net, batch, generators, threat, loss, steps, relative_step * threat.eps)


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
    right = _is_correct(net, origin, labels).nonzero().flatten()  # indices: each mask would wait for the device
    origin, labels = origin[right], labels[right]
    images = threat.random_start(origin, generators.select(right))
    for _ in range(steps):
        if len(images) == 0:
            return 0
        logits, gradient = gradient_of(net, images, partial(_losses, loss, labels))
        images = projected_step(images, origin, gradient, threat, step_size, direction="unconstrained")
        right = (logits.argmax(1) == labels).nonzero().flatten()
        images, origin, labels = images[right], origin[right], labels[right]
    return int(_is_correct(net, images, labels).sum()) if len(images) else 0


def _losses(loss: PerExampleLoss, labels: Tensor, logits: Logits) -> Tensor:
    return loss(logits, labels)


def _is_correct(net: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    with torch.no_grad():
        logits: Logits = net(images)
    return logits.argmax(1) == labels
