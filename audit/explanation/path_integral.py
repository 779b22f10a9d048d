"""A gradient integrated along the line from a baseline to an image, finer where the output bends."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from audit.core.types import Images, Labels, Logits
from audit.explanation.spec import ExplanationSpec
from audit.masking.outputs import score
from audit.models.under_test import ModelUnderTest

Numbers = NDArray[np.float64]
LOOSE = 10
"""How many times the tolerance the misses may be that cancel: a sum can close by chance on a line still too coarse."""
_KEPT = 1 << 27
"""Numbers of gradients held at once, which bounds the images walked together."""


@dataclass
class IntegrationPath:
    """One image's line: `places` in [0, 1], rising, with the output and its slope along the line at each; `order`
    says where each stands in `gradients`, which hold the points as they were asked."""

    places: Numbers = field(default_factory=lambda: np.zeros(0))
    outputs: Numbers = field(default_factory=lambda: np.zeros(0))
    slopes: Numbers = field(default_factory=lambda: np.zeros(0))
    order: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    gradients: list[Tensor] = field(default_factory=list)

    @property
    def stretches(self) -> int:
        """How many there are between neighbouring points."""
        return len(self.places) - 1

    @property
    def gap(self) -> float:
        """The output at the image less that at the baseline."""
        return float(self.outputs[-1] - self.outputs[0])

    @property
    def misses(self) -> Numbers:
        """What each stretch's mean slope says of the output's change over it, less that change."""
        return np.diff(self.places) * (self.slopes[1:] + self.slopes[:-1]) / 2 - np.diff(self.outputs)

    def closes(self, tolerance: float) -> bool:
        """Whether the misses sum to at most `tolerance` of the gap, and without their signs to `LOOSE` times that."""
        allowed, misses = self._allowed(tolerance), self.misses
        return abs(float(misses.sum())) <= allowed and float(np.abs(misses).sum()) <= LOOSE * allowed

    def finer(self, tolerance: float, most: int) -> Numbers:
        """The middles of the worst third of stretches, of those that miss more than an even share of what is allowed;
        fewer where `most` stretches leave no room."""
        misses = np.abs(self.misses)
        guilty = int((misses > self._allowed(tolerance) / self.stretches).sum())
        count = min(guilty, math.ceil(self.stretches / 3), most - self.stretches)
        worst = np.sort(np.argsort(-misses, kind="stable")[: max(0, count)])
        return (self.places[worst] + self.places[worst + 1]) / 2

    def _allowed(self, tolerance: float) -> float:
        """Never less than the outputs' own rounding, which no number of steps undoes."""
        rounding = float(np.finfo(np.float32).eps) * self.stretches * float(np.abs(self.outputs).max())
        return max(tolerance * abs(self.gap), rounding, 1e-8)

    def add(self, places: Numbers, outputs: Numbers, slopes: Numbers, gradients: Tensor) -> None:
        """Further points."""
        numbers = np.arange(len(self.order), len(self.order) + len(places))
        merged = np.concatenate([self.places, places])
        rising = np.argsort(merged, kind="stable")
        self.places = merged[rising]
        self.outputs = np.concatenate([self.outputs, outputs])[rising]
        self.slopes = np.concatenate([self.slopes, slopes])[rising]
        self.order = np.concatenate([self.order, numbers])[rising]
        self.gradients.append(gradients)

    def mean_gradient(self) -> Tensor:
        """The gradient averaged over the line, by trapezoids, (C, H, W)."""
        half = np.diff(self.places) / 2
        weights = np.zeros(len(self.places))
        weights[self.order] = np.append(half, 0) + np.append(0, half)
        parts = np.split(weights, np.cumsum([len(part) for part in self.gradients])[:-1])
        sums = [
            torch.tensordot(torch.as_tensor(share, dtype=part.dtype, device=part.device), part, 1)
            for share, part in zip(parts, self.gradients, strict=True)
        ]
        return torch.stack(sums).sum(0)


def integrate_gradients(
    model: ModelUnderTest, images: Images, explained: ExplanationSpec, *, steps: int, most: int, tolerance: float
) -> tuple[Images, list[IntegrationPath]]:
    """The mean gradient of each image's output over its line, (N, C, H, W), and the line without its gradients.

    `steps` equal stretches at first; an image whose line does not close gets the worst third of its stretches halved,
    and again, up to `most`. No point is asked twice.
    """
    means, lines = torch.zeros_like(images), [IntegrationPath() for _ in range(len(images))]
    together = max(1, _KEPT // (max(steps, most) + 1) // images[0].numel())
    for start in range(0, len(images), together):
        asked = {row: np.linspace(0, 1, steps + 1) for row in range(start, min(start + together, len(images)))}
        while asked:
            _ask(model, images, explained, lines, asked)
            finer = {row: lines[row].finer(tolerance, most) for row in asked if not lines[row].closes(tolerance)}
            finer = {row: places for row, places in finer.items() if len(places)}
            for row in asked.keys() - finer.keys():
                means[row] = lines[row].mean_gradient()
                lines[row].gradients.clear()
            asked = finer
    return means, lines


def _ask(
    model: ModelUnderTest,
    images: Images,
    explained: ExplanationSpec,
    lines: Sequence[IntegrationPath],
    asked: dict[int, Numbers],
) -> None:
    """Output, slope and gradient at the places asked of each row, added to its line."""
    lengths = [len(places) for places in asked.values()]
    rows = torch.tensor(list(asked), device=images.device).repeat_interleave(
        torch.tensor(lengths, device=images.device), output_size=sum(lengths)
    )
    where = torch.as_tensor(np.concatenate(list(asked.values())), dtype=images.dtype, device=images.device)
    difference = images[rows] - explained.baseline[rows]

    def quantity(logits: Logits, targets: Labels) -> Tensor:
        return score(logits, targets, explained.output)

    points = explained.baseline[rows] + where.view(-1, 1, 1, 1) * difference
    _, outputs, gradients = model.loss_gradient(points, explained.targets[rows], quantity)
    slopes = (gradients * difference).flatten(1).sum(1)
    known = torch.stack([outputs, slopes]).double().cpu().numpy()
    ends = np.cumsum(lengths)
    for (row, places), stop in zip(asked.items(), ends, strict=True):
        part = slice(int(stop) - len(places), int(stop))
        lines[row].add(places, known[0, part], known[1, part], gradients[part])
