"""The line from a baseline to an image: what was evaluated on it, what its rule misses, and where to look closer."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from audit.core.precise import precise
from audit.explanation.precision import order_holds, pooled

Numbers = NDArray[np.float64]
CANCELLING = 10
"""How many times the tolerance the errors may sum to without their signs: a sum can cancel by chance on a coarse path.
"""


@dataclass
class IntegrationPath:
    """The line from one image's baseline to the image, with what was evaluated on it.

    Attributes:
        positions: Where points were evaluated, rising, float64 (P,) in [0, 1]: 0 is the baseline, 1 the image.
        outputs: The explained output at each, float64 (P,).
        slopes: Its derivative along the line at each, float64 (P,).
        order: Where each point stands in `gradients`, int64 (P,).
        gradients: The gradients (p, C, H, W) in the order in which they were evaluated, a tensor a round.
        map_error: What the attributions may be off by as a share of their length, as `judge` last found.
        settled: Whether that, and the order of the leading parts, is as precise as `judge` was asked.
    """

    positions: Numbers = field(default_factory=lambda: np.zeros(0))
    outputs: Numbers = field(default_factory=lambda: np.zeros(0))
    slopes: Numbers = field(default_factory=lambda: np.zeros(0))
    order: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    gradients: list[Tensor] = field(default_factory=list)
    map_error: float = 0.0
    settled: bool = False

    @property
    def intervals(self) -> int:
        """How many there are between neighbouring points."""
        return len(self.positions) - 1

    @property
    def gap(self) -> float:
        """The output at the image less that at the baseline."""
        return float(self.outputs[-1] - self.outputs[0])

    @property
    def errors(self) -> Numbers:
        """What each interval's mean slope says of the output's change over it, less that change, (P - 1,)."""
        return np.diff(self.positions) * (self.slopes[1:] + self.slopes[:-1]) / 2 - np.diff(self.outputs)

    def is_complete(self, tolerance: float) -> bool:
        """Whether the errors sum to little, and to not much more without their signs.

        Args:
            tolerance: Share of the gap that their sum may reach; `CANCELLING` times it without signs.
        """
        allowed, errors = self._allowed(tolerance), self.errors
        return abs(float(errors.sum())) <= allowed and float(np.abs(errors).sum()) <= CANCELLING * allowed

    def refine(self, tolerance: float, max_steps: int) -> Numbers:
        """The middles of the worst third of intervals, of those whose error is over an even share of what is allowed.

        Args:
            tolerance: Share of the gap that the errors may sum to.
            max_steps: Intervals at most, which may leave room for fewer middles.
        """
        errors = np.abs(self.errors)
        over = int((errors > self._allowed(tolerance) / self.intervals).sum())
        count = min(over, math.ceil(self.intervals / 3), max_steps - self.intervals)
        return self._middles(np.argsort(-errors, kind="stable")[: max(0, count)])

    def refine_map(self, changes: Numbers, max_steps: int) -> Numbers:
        """The middles of the intervals to both sides of the points that changed the map most, a third of them.

        Args:
            changes: As `judge` gives them.
            max_steps: Intervals at most, which may leave room for fewer middles.
        """
        worst = np.argsort(-changes, kind="stable")[: math.ceil(len(changes) / 3)]
        first = _first_of_two(self.intervals)[worst]
        return self._middles(np.unique(np.concatenate([first, first + 1]))[: max(0, max_steps - self.intervals)])

    def _middles(self, intervals: NDArray[np.int64]) -> Numbers:
        worst = np.sort(intervals)
        return (self.positions[worst] + self.positions[worst + 1]) / 2

    def judge(self, difference: Tensor, precision: float | None) -> Numbers:
        """Set `map_error` and `settled`, and give what every second point changed the attributions by, a length each.

        The trapezoid rule is held against itself without every second point: for gradients that vary along the line
        as they do in deep nets, like noise, the difference is as large as the error that is left on average, and for
        smooth ones three times as large.

        Args:
            difference: The image less its baseline, (C, H, W).
            precision: The error asked for, as a share of the length of the attributions; None for none.
        """
        if self.intervals < 2:  # nothing tells the error: as large as the map
            self.map_error, self.settled = 1.0, False
            return np.zeros(0)
        gradients = torch.cat(self.gradients)[torch.from_numpy(self.order).to(difference.device)]
        first = torch.from_numpy(_first_of_two(self.intervals)).to(difference.device)
        widths = torch.as_tensor(np.diff(self.positions), dtype=gradients.dtype, device=gradients.device)
        before, after = (widths[first + side].view(-1, 1, 1, 1) / 2 for side in (0, 1))
        middle = (before + after) * gradients[first + 1]
        changes = (middle - after * gradients[first] - before * gradients[first + 2]) * difference
        attributions = self.mean_gradient() * difference
        lengths, total = precise(changes.flatten(1).norm(dim=1)), changes.sum(0)
        length = float(attributions.norm())
        self.map_error = max(float(lengths.norm()), float(total.norm())) / length if length else 0.0
        parts, coarser = pooled(torch.stack([attributions, attributions - total]))
        self.settled = precision is not None and self.map_error <= precision and order_holds(coarser, parts, precision)
        return np.asarray(lengths.cpu().numpy())

    def _allowed(self, tolerance: float) -> float:
        """Never less than the outputs' own rounding, which no number of steps undoes."""
        rounding = float(np.finfo(np.float32).eps) * self.intervals * float(np.abs(self.outputs).max())
        return max(tolerance * abs(self.gap), rounding, 1e-8)

    def add(self, positions: Numbers, outputs: Numbers, slopes: Numbers, gradients: Tensor) -> None:
        """Insert further points.

        Args:
            positions: Where they lie, float64 (p,) in [0, 1].
            outputs: The explained output there, float64 (p,).
            slopes: Its derivative along the line, float64 (p,).
            gradients: Its gradient to the pixels, (p, C, H, W).
        """
        numbers = np.arange(len(self.order), len(self.order) + len(positions))
        merged = np.concatenate([self.positions, positions])
        rising = np.argsort(merged, kind="stable")
        self.positions = merged[rising]
        self.outputs = np.concatenate([self.outputs, outputs])[rising]
        self.slopes = np.concatenate([self.slopes, slopes])[rising]
        self.order = np.concatenate([self.order, numbers])[rising]
        self.gradients.append(gradients)

    def mean_gradient(self) -> Tensor:
        """The gradient averaged over the line by the trapezoid rule, (C, H, W)."""
        half = np.diff(self.positions) / 2
        weights = np.zeros(len(self.positions))
        weights[self.order] = np.append(half, 0) + np.append(0, half)
        parts = np.split(weights, np.cumsum([len(part) for part in self.gradients])[:-1])
        sums = [
            torch.tensordot(torch.as_tensor(share, dtype=part.dtype, device=part.device), part, 1)
            for share, part in zip(parts, self.gradients, strict=True)
        ]
        return torch.stack(sums).sum(0)


def _first_of_two(intervals: int) -> NDArray[np.int64]:
    """The first of every two neighbouring intervals; where their number is odd the last two overlap with others."""
    first = np.arange(0, intervals - 1, 2)
    return np.append(first, intervals - 2) if intervals % 2 else first
