"""What the held-out images say after each epoch: the scores that choose the checkpoint."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from audit.core.ascent import projected_step
from audit.core.seeding import Generators
from audit.core.threat import ThreatModel
from audit.core.types import Batch, Logits
from audit.training.inner_attack import frozen_eval, gradient_of
from audit.training.step import Loss

_BATCH = 128


@dataclass(frozen=True)
class Validator:
    """`held_out` images on the net's device; under a `threat` the first `examples` are attacked with `steps` of
    projected ascent from the same random starts every epoch, so that epochs differ by their weights alone."""

    held_out: Batch
    threat: ThreatModel | None
    loss: Loss
    seed: int
    examples: int
    steps: int

    def __call__(self, net: nn.Module) -> dict[str, float]:
        """`clean_accuracy`, and `robust_accuracy` under a threat, as shares."""
        with frozen_eval(net):
            clean = accuracy(net, self.held_out)
            scores = {"clean_accuracy": clean}
            if self.threat is not None:
                part = self.held_out.select(torch.arange(min(self.examples, len(self.held_out)), device="cpu"))
                scores["robust_accuracy"] = robust_accuracy(
                    net, part, self.threat, self.loss, seed=self.seed, steps=self.steps
                )
        return scores


def selection_score(scores: dict[str, float]) -> tuple[float, float]:
    """What makes an epoch the best: robust accuracy where it is measured, clean accuracy behind it."""
    return scores.get("robust_accuracy", scores["clean_accuracy"]), scores["clean_accuracy"]


def accuracy(net: nn.Module, batch: Batch) -> float:
    """The share of `batch` the net classifies right."""
    right = [_right(net, batch.images[part], batch.labels[part]).sum() for part in _parts(len(batch))]
    return float(torch.stack(right).sum()) / len(batch)


def robust_accuracy(
    net: nn.Module, batch: Batch, threat: ThreatModel, loss: Loss, *, seed: int, steps: int, relative_step: float = 0.25
) -> float:
    """The share still right at every one of `steps` points of projected ascent; what is broken leaves the batch."""
    generators = Generators.of(batch.ids, seed=seed, purpose="training probe", device=batch.images.device)
    standing = 0
    for part in _parts(len(batch)):
        index = torch.arange(len(batch), device=batch.labels.device)[part]
        some = batch.select(index), generators.select(index)
        standing += _survivors(net, *some, threat, loss, steps, relative_step * threat.eps)
    return standing / len(batch)


def _parts(total: int) -> list[slice]:
    return [slice(start, start + _BATCH) for start in range(0, total, _BATCH)]


def _survivors(
    net: nn.Module,
    batch: Batch,
    generators: Generators,
    threat: ThreatModel,
    loss: Loss,
    steps: int,
    step_size: float,
) -> int:
    origin, labels = batch.images, batch.labels
    right = _right(net, origin, labels)
    origin, labels = origin[right], labels[right]
    images = threat.random_start(origin, generators.select(right))
    for _ in range(steps):
        if len(images) == 0:
            return 0
        logits, gradient = gradient_of(net, images, partial(_losses, loss, labels))
        images = projected_step(images, origin, gradient, threat, step_size, direction="unconstrained")
        right = logits.argmax(1) == labels
        images, origin, labels = images[right], origin[right], labels[right]
    return int(_right(net, images, labels).sum()) if len(images) else 0


def _losses(loss: Loss, labels: Tensor, logits: Logits) -> Tensor:
    return loss(logits, labels)


def _right(net: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    with torch.no_grad():
        logits: Logits = net(images)
    return logits.argmax(1) == labels
