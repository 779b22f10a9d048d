"""Integrated gradients, with as many steps as completeness takes: finer where the output bends."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from audit.core.registry import attribution
from audit.core.types import Images, Labels, Logits, PassCount
from audit.explanation.spec import Attribution, ExplanationSpec
from audit.masking.outputs import score
from audit.models.under_test import ModelUnderTest

Numbers = NDArray[np.float64]
CANCELLING = 10
"""How many times the tolerance the errors may sum to without their signs: a sum can cancel by chance on a coarse path.
"""
_GRADIENT_NUMBERS = 1 << 27
"""Numbers of gradients held at once, which bounds the images integrated together."""


def _passes(settings: Mapping[str, Any], shape: tuple[int, ...]) -> PassCount:
    points = max(settings["steps"], settings["max_steps"]) + 1
    return PassCount(points, points)


def _expected(settings: Mapping[str, Any], shape: tuple[int, ...]) -> PassCount:
    """Most images close with the first steps; 1.2 times those were taken on average on Fashion-MNIST's `cnn-28`."""
    points = math.ceil(1.2 * settings["steps"]) + 1
    return PassCount(points, points)


@attribution(
    reference="arXiv:1703.01365",
    needs="gradients",
    signed=True,
    baseline=0.0,
    passes=_passes,
    expected=_expected,
    quality_units={
        "completeness_residual": ("output", "lower"),
        "completeness_error": ("share", "lower"),
        "path_error": ("share", "lower"),
        "steps": ("count", "neither"),
        "closed": ("share", "higher"),
    },
    version="2",
)
def integrated_gradients(
    model: ModelUnderTest,
    images: Images,
    spec: ExplanationSpec,
    *,
    steps: int = 32,
    max_steps: int = 256,
    tolerance: float = 0.01,
) -> Attribution:
    """The gradient averaged along the line from the baseline, times the difference to it.

    Equation 1 of arXiv:1703.01365, by the trapezoid rule. Attributions sum to output(image) - output(baseline)
    (completeness). The path begins as `steps` equal intervals; where the gradients at an interval's ends do not account
    for the output's change over it, it is halved, worst first, until the whole misses at most `tolerance` of the
    difference and the intervals one by one at most ten times that, or until there are `max_steps`.

    Quality: `completeness_residual` (in units of the output), `completeness_error` (relative), `path_error` (the errors
    of all intervals, signs aside, relative), `steps`, `closed` (1 where it is complete within `max_steps`). Units:
    output.

    Args:
        model: The model to explain.
        images: Float32 (N, C, H, W) in [0, 1].
        spec: What to explain.
        steps: Intervals at first.
        max_steps: Intervals at most.
        tolerance: Share of the output's difference that the attributions may miss.
    """
    means, paths = integrate_gradients(model, images, spec, steps=steps, max_steps=max_steps, tolerance=tolerance)
    attributions = means * (images - spec.baseline)
    gap = torch.tensor([path.gap for path in paths], device=images.device, dtype=torch.float64)
    scale = gap.abs().clamp(min=1e-6)
    residual = (attributions.double().flatten(1).sum(1) - gap).abs()
    missed = torch.tensor([float(np.abs(path.errors).sum()) for path in paths], device=images.device).double()
    quality = {
        "completeness_residual": residual,
        "completeness_error": residual / scale,
        "path_error": missed / scale,
        "steps": torch.tensor([float(path.intervals) for path in paths], device=images.device),
        "closed": torch.tensor([float(path.is_complete(tolerance)) for path in paths], device=images.device),
    }
    return Attribution(attributions, {name: value.float() for name, value in quality.items()})


@dataclass
class IntegrationPath:
    """The line from one image's baseline to the image, with what was evaluated on it.

    Attributes:
        positions: Where points were evaluated, rising, float64 (P,) in [0, 1]: 0 is the baseline, 1 the image.
        outputs: The explained output at each, float64 (P,).
        slopes: Its derivative along the line at each, float64 (P,).
        order: Where each point stands in `gradients`, int64 (P,).
        gradients: The gradients (p, C, H, W) in the order in which they were evaluated, a tensor a round.
    """

    positions: Numbers = field(default_factory=lambda: np.zeros(0))
    outputs: Numbers = field(default_factory=lambda: np.zeros(0))
    slopes: Numbers = field(default_factory=lambda: np.zeros(0))
    order: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    gradients: list[Tensor] = field(default_factory=list)

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
        worst = np.sort(np.argsort(-errors, kind="stable")[: max(0, count)])
        return (self.positions[worst] + self.positions[worst + 1]) / 2

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


def integrate_gradients(
    model: ModelUnderTest, images: Images, spec: ExplanationSpec, *, steps: int, max_steps: int, tolerance: float
) -> tuple[Images, list[IntegrationPath]]:
    """The mean gradient of each image's output over its path, (N, C, H, W), and the paths without their gradients.

    Args:
        model: The model to explain.
        images: Float32 (N, C, H, W) in [0, 1].
        spec: What to explain.
        steps: Equal intervals at first; no point is evaluated twice.
        max_steps: Intervals at most.
        tolerance: Share of the output's difference up to which a path counts as complete and is not refined.
    """
    means, paths = torch.zeros_like(images), [IntegrationPath() for _ in range(len(images))]
    rows_at_once = max(1, _GRADIENT_NUMBERS // (max(steps, max_steps) + 1) // images[0].numel())
    for start in range(0, len(images), rows_at_once):
        pending = {row: np.linspace(0, 1, steps + 1) for row in range(start, min(start + rows_at_once, len(images)))}
        while pending:
            _evaluate(model, images, spec, paths, pending)
            finer = {
                row: paths[row].refine(tolerance, max_steps) for row in pending if not paths[row].is_complete(tolerance)
            }
            finer = {row: positions for row, positions in finer.items() if len(positions)}
            for row in pending.keys() - finer.keys():
                means[row] = paths[row].mean_gradient()
                paths[row].gradients.clear()
            pending = finer
    return means, paths


def _evaluate(
    model: ModelUnderTest,
    images: Images,
    spec: ExplanationSpec,
    paths: Sequence[IntegrationPath],
    pending: dict[int, Numbers],
) -> None:
    """Output, slope and gradient at the pending positions of each row, added to its path."""
    lengths = [len(positions) for positions in pending.values()]
    rows = torch.tensor(list(pending), device=images.device).repeat_interleave(
        torch.tensor(lengths, device=images.device), output_size=sum(lengths)
    )
    path_positions = torch.as_tensor(np.concatenate(list(pending.values())), dtype=images.dtype, device=images.device)
    difference = images[rows] - spec.baseline[rows]

    def explained_score(logits: Logits, targets: Labels) -> Tensor:
        return score(logits, targets, spec.output)

    points = spec.baseline[rows] + path_positions.view(-1, 1, 1, 1) * difference
    _, outputs, gradients = model.loss_gradient(points, spec.targets[rows], explained_score)
    slopes = (gradients * difference).flatten(1).sum(1)
    numbers = torch.stack([outputs, slopes]).double().cpu().numpy()
    ends = np.cumsum(lengths)
    for (row, positions), stop in zip(pending.items(), ends, strict=True):
        part = slice(int(stop) - len(positions), int(stop))
        paths[row].add(positions, numbers[0, part], numbers[1, part], gradients[part])
