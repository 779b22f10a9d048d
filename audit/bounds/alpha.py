"""Bounds with optimised slopes and multipliers (alpha-CROWN arXiv:2011.13824, beta-CROWN arXiv:2103.06624)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from audit.bounds.activations import Activation, usual_slope
from audit.bounds.graph import BoundGraph
from audit.bounds.propagate import Values, lower_bound
from audit.bounds.region import Region

_RATE = 0.25
_MULTIPLIER_RATE = 0.05
_DECAY = 0.95


class SignSplit(NamedTuple):
    """The signs that sub-problems give to the inputs of one layer of ReLUs.

    Attributes:
        numbers: Which of its numbers, flat, int64 (N, M); repeated where a row has fewer.
        sign: 1 for at least 0, -1 for at most 0, 0 for none, (N, M).
    """

    numbers: Tensor
    sign: Tensor


class Optimised(NamedTuple):
    """The best bound of each row, and what it was reached with.

    Attributes:
        bound: (N, S).
        slopes: By the position of a ReLU, (N, S, *shape).
        multipliers: By the position of a ReLU's input, at least 0, (N, S, M).
    """

    bound: Tensor
    slopes: dict[int, Tensor]
    multipliers: dict[int, Tensor]


def usual_slopes(graph: BoundGraph, values: Values, functions: int) -> dict[int, Tensor]:
    """The slopes that CROWN takes, one set a function, for ReLUs of which any is unstable.

    Args:
        graph: The net.
        values: Bounds on its values.
        functions: Functions an image, S.
    """
    slopes = {}
    for position in graph.activations:
        node = graph.nodes[position]
        assert isinstance(node.operation, Activation)
        box = values.boxes[node.inputs[0]]
        if node.operation.derivative is None and bool(((box.low < 0) & (box.high > 0)).any()):
            slope = usual_slope(box.low, box.high)[:, None]
            slopes[position] = slope.repeat(1, functions, *(1,) * len(node.shape))
    return slopes


def constraint_terms(
    graph: BoundGraph, splits: Mapping[int, SignSplit], multipliers: Mapping[int, Tensor]
) -> dict[int, Tensor]:
    """What split constraints add to coefficients: -beta z for z at least 0, +beta z for z at most 0 (Lagrange).

    Args:
        graph: The net.
        splits: By the position of a ReLU's input.
        multipliers: At least 0, (N, S, M).

    Returns:
        By position, (N, S, *shape).
    """
    terms = {}
    for position, split in splits.items():
        beta = multipliers[position]
        shape = graph.nodes[position].shape
        flat = beta.new_zeros(*beta.shape[:2], _count(shape))
        values = -beta * split.sign[:, None].to(beta.dtype)
        terms[position] = flat.scatter_add(2, split.numbers[:, None].expand_as(values), values).view(
            *beta.shape[:2], *shape
        )
    return terms


def optimise(
    graph: BoundGraph,
    values: Values,
    region: Region,
    coefficients: Tensor,
    *,
    steps: int,
    slopes: Mapping[int, Tensor] | None = None,
    splits: Mapping[int, SignSplit] | None = None,
    multipliers: Mapping[int, Tensor] | None = None,
    late: Callable[[], bool] | None = None,
) -> Optimised:
    """Raise lower bounds on functions of the logits by Adam on slopes and multipliers; the boxes stay.

    Any slopes in [0, 1] and any multipliers of at least 0 give a valid bound. It ends early where every function is
    above 0; functions that are zero are not waited for.

    Args:
        graph: The net.
        values: Bounds on its values.
        region: The inputs.
        coefficients: Of the logits, (N, S, classes).
        steps: Gradient steps; each is a backward pass and its derivative.
        slopes: Where to begin; None for CROWN's.
        splits: Signs given to ReLU inputs, whose boxes obey them already.
        multipliers: Where to begin; None for 0.
        late: Turns true when no more steps are to be taken.
    """
    splits = splits or {}
    start = slopes or usual_slopes(graph, values, coefficients.shape[1])
    alphas = {i: slope.detach().clone().requires_grad_(steps > 0) for i, slope in start.items()}
    betas = {}
    for i, split in splits.items():
        begin = (multipliers or {}).get(i)
        zeros = coefficients.new_zeros(*coefficients.shape[:2], split.numbers.shape[1])
        if begin is not None:
            zeros[..., : begin.shape[-1]] = begin
        betas[i] = zeros.requires_grad_(steps > 0)
    best = Optimised(
        coefficients.new_full(coefficients.shape[:2], -torch.inf),
        {i: a.detach().clone() for i, a in alphas.items()},
        {i: b.detach().clone() for i, b in betas.items()},
    )
    groups = [{"params": list(alphas.values()), "lr": _RATE}, {"params": list(betas.values()), "lr": _MULTIPLIER_RATE}]
    groups = [group for group in groups if group["params"]]
    optimiser = torch.optim.Adam(groups, fused=True) if steps and groups else None
    bound, zero = best.bound, coefficients.abs().sum(2) == 0
    costs: Tensor | None = None
    """What rounding costs with the first slopes, some 1e-4 of a bound: taken for what it costs with any."""
    for step in range(steps + 1):
        last = step == steps or optimiser is None or (late is not None and step > 0 and late())
        with torch.set_grad_enabled(not last):
            terms = constraint_terms(graph, splits, betas)
            lower = lower_bound(
                graph,
                values,
                region,
                graph.output,
                coefficients,
                alphas,
                multipliers=terms,
                guarded=False,
                costed=costs is None,
            )
            bound = lower.bound if costs is None else lower.bound - costs
        costs = lower.costs.detach() if costs is None else costs
        better = bound.detach() > best.bound
        for kept, current in ((best.slopes, alphas), (best.multipliers, betas)):
            for i, value in current.items():
                _keep(kept[i], value.detach(), better)
        best = best._replace(bound=torch.where(better, bound.detach(), best.bound))
        if last or optimiser is None or bool(((best.bound > 0) | zero).all()):
            break
        optimiser.zero_grad(set_to_none=True)
        (-bound.clamp(max=1e3).sum()).backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        for group in optimiser.param_groups:
            group["lr"] *= _DECAY
        with torch.no_grad():
            for slope in alphas.values():
                slope.clamp_(0, 1)
            for beta in betas.values():
                beta.clamp_(min=0)
    return best


def _keep(best: Tensor, current: Tensor, better: Tensor) -> None:
    """Write the rows that are better over the best so far."""
    if bool(better.all()):
        best.copy_(current)
    else:
        rows = better.nonzero(as_tuple=True)
        best[rows] = current[rows]


def _count(shape: tuple[int, ...]) -> int:
    return int(torch.Size(shape).numel())
