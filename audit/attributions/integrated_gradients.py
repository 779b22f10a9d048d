"""Integrated gradients, with as many steps as completeness takes: finer where the output bends."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from audit.core.precise import precise, precise_device
from audit.core.registry import attribution
from audit.core.types import Images, Labels, Logits, PassCount
from audit.explanation.integration_path import IntegrationPath, Numbers
from audit.explanation.precision import PRECISION_UNITS, MapPrecision
from audit.explanation.spec import Attribution, ExplanationSpec
from audit.masking.outputs import score
from audit.models.under_test import ModelUnderTest

_COARSE = 4
"""By so much fewer intervals a path begins with where a precision is asked for, which tells where finer ones lack."""
_POINTS = 4
"""Intervals expected where the error asked for is the whole map: more in proportion where it is less."""
_GRADIENT_NUMBERS = 1 << 27
"""Numbers of gradients held at once, which bounds the images integrated together."""


def _passes(settings: Mapping[str, Any], shape: tuple[int, ...]) -> PassCount:
    points = max(settings["steps"], settings["max_steps"]) + 1
    return PassCount(points, points)


def _expected(settings: Mapping[str, Any], shape: tuple[int, ...]) -> PassCount:
    """Most images close with the first steps; 1.2 times those were taken on average on Fashion-MNIST's `cnn-28`."""
    points, precision = math.ceil(1.2 * settings["steps"]), settings.get("precision")
    if precision is not None:
        points = min(settings["max_steps"], max(settings["steps"] // _COARSE, math.ceil(_POINTS / precision)))
    return PassCount(points + 1, points + 1)


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
        **PRECISION_UNITS,
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
    precision: MapPrecision | None = None,
) -> Attribution:
    """The gradient averaged along the line from the baseline, times the difference to it.

    Equation 1 of arXiv:1703.01365, by the trapezoid rule. Attributions sum to output(image) - output(baseline)
    (completeness). The path begins as `steps` equal intervals; where the gradients at an interval's ends do not account
    for the output's change over it, it is halved, worst first, until the whole misses at most `tolerance` of the
    difference and the intervals one by one at most ten times that, or until there are `max_steps`.

    Quality: `completeness_residual` (in units of the output), `completeness_error` (relative), `path_error` (the errors
    of all intervals, signs aside, relative), `steps`, `closed` (1 where it is complete within `max_steps`), and see
    `audit.explanation.precision.PRECISION_UNITS`, where the error is that of the rule (`IntegrationPath.judge`) and
    samples are points. Units: output.

    Args:
        model: The model to explain.
        images: Float32 (N, C, H, W) in [0, 1].
        spec: What to explain.
        steps: Intervals at first.
        max_steps: Intervals at most.
        tolerance: Share of the output's difference that the attributions may miss.
        precision: Begin with a quarter of the intervals, and halve those whose middles move the map most, until the map
            is off by at most this share of its size and misses at most as much of the difference; None for completeness
            alone.
    """
    if precision is not None:
        steps, tolerance = max(2, steps // _COARSE), max(tolerance, precision)
    means, paths = integrate_gradients(
        model, images, spec, steps=steps, max_steps=max_steps, tolerance=tolerance, precision=precision
    )
    attributions = means * (images - spec.baseline)
    gap = torch.tensor([path.gap for path in paths], device=precise_device(images.device), dtype=torch.float64)
    scale = gap.abs().clamp(min=1e-6)
    residual = (precise(attributions).flatten(1).sum(1) - gap).abs()
    missed = torch.tensor([float(np.abs(path.errors).sum()) for path in paths], device=gap.device).double()
    quality = {
        "completeness_residual": residual,
        "completeness_error": residual / scale,
        "path_error": missed / scale,
        "steps": torch.tensor([float(path.intervals) for path in paths], device=images.device),
        "closed": torch.tensor([float(path.is_complete(tolerance)) for path in paths], device=images.device),
        "error": torch.tensor([path.map_error for path in paths], device=images.device),
        "samples": torch.tensor([float(len(path.positions)) for path in paths], device=images.device),
    }
    if precision is not None:
        settled = [path.settled and path.is_complete(tolerance) for path in paths]
        quality["reached"] = torch.tensor(settled, device=images.device)
    return Attribution(attributions, {name: value.float() for name, value in quality.items()})


def integrate_gradients(
    model: ModelUnderTest,
    images: Images,
    spec: ExplanationSpec,
    *,
    steps: int,
    max_steps: int,
    tolerance: float,
    precision: float | None = None,
) -> tuple[Images, list[IntegrationPath]]:
    """The mean gradient of each image's output over its path, (N, C, H, W), and the paths without their gradients.

    Args:
        model: The model to explain.
        images: Float32 (N, C, H, W) in [0, 1].
        spec: What to explain.
        steps: Equal intervals at first; no point is evaluated twice.
        max_steps: Intervals at most.
        tolerance: Share of the output's difference up to which a path counts as complete and is not refined.
        precision: Share of the map's length up to which the map may be off; None for completeness alone.
    """
    means, paths = torch.zeros_like(images), [IntegrationPath() for _ in range(len(images))]
    rows_at_once = max(1, _GRADIENT_NUMBERS // (max(steps, max_steps) + 1) // images[0].numel())
    for start in range(0, len(images), rows_at_once):
        pending = {row: np.linspace(0, 1, steps + 1) for row in range(start, min(start + rows_at_once, len(images)))}
        while pending:
            _evaluate(model, images, spec, paths, pending)
            finer = {}
            for row in pending:
                difference = images[row] - spec.baseline[row]
                positions = _finer(paths[row], difference, tolerance, max_steps, precision)
                if len(positions):
                    finer[row] = positions
            for row in pending.keys() - finer.keys():
                means[row] = paths[row].mean_gradient()
                paths[row].gradients.clear()
            pending = finer
    return means, paths


def _finer(
    path: IntegrationPath, difference: Tensor, tolerance: float, max_steps: int, precision: float | None
) -> Numbers:
    """Where to evaluate next; nowhere where the path is fine enough, or as fine as it may be."""
    complete = path.is_complete(tolerance)
    positions = np.zeros(0) if complete else path.refine(tolerance, max_steps)
    if precision is None and len(positions):
        return positions
    changes = path.judge(difference, precision)
    if precision is None or (complete and path.settled):
        return positions
    return path.refine_map(changes, max_steps)


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
    numbers = torch.stack([outputs, slopes]).cpu().double().numpy()
    ends = np.cumsum(lengths)
    for (row, positions), stop in zip(pending.items(), ends, strict=True):
        part = slice(int(stop) - len(positions), int(stop))
        paths[row].add(positions, numbers[0, part], numbers[1, part], gradients[part])
