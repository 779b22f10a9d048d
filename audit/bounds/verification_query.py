"""One box of a property as tensors: its ends, its constraints, and which points are counterexamples."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction

import torch
from torch import Tensor

from audit.bounds.region import Region
from audit.bounds.verification_net import VerificationNet
from audit.bounds.vnnlib import InputBox, OutputConstraint
from audit.core.errors import DataError

RESTARTS = 256
"""Points that an attack begins from, at least one a conjunction."""
_STEPS = 60
_LARGEST = 3.0e38


@dataclass(frozen=True)
class Counterexample:
    """An input of a box whose outputs meet a conjunction.

    Attributes:
        inputs: The value of each input, within the bounds of the property.
        outputs: The net's outputs at the inputs rounded to float32.
    """

    inputs: list[float]
    outputs: list[float]

    def text(self) -> str:
        """It as the verification competition writes it: ((X_0 value) ... (Y_0 value) ...)."""
        rows = [f"(X_{i} {value!r})" for i, value in enumerate(self.inputs)]
        rows += [f"(Y_{i} {value!r})" for i, value in enumerate(self.outputs)]
        return "(" + "\n ".join(rows) + ")\n"


class BoxQuery:
    """One box of a property, and the net.

    A net takes its inputs in float32: an input of the box stands for the nearest float32 number. So the region that is
    searched and proven holds the box and what its inputs are rounded to.

    Attributes:
        region: The inputs, float64 (1, D).
        coefficients: Of the outputs in every constraint, float64 (K, outputs).
        limits: What each is to be at most, rounded up, float64 (K,).
        owners: The conjunction that each constraint belongs to, int64 (K,).
        conjunctions: How many there are.
        counterexample: One that was met; None so far.
    """

    def __init__(self, net: VerificationNet, box: InputBox, outputs: int) -> None:
        """Nothing is searched yet.

        Args:
            net: The net, converted.
            box: The box.
            outputs: Of the net.

        Raises:
            DataError: The box goes beyond float32.
        """
        assert net.flat is not None
        self.flat, self._own, self._box = net.flat, net.own, box
        if max(map(abs, (*box.low, *box.high))) > _LARGEST:
            raise DataError("An input is bounded beyond the numbers of float32, which the net computes with.")
        self.near_low = torch.tensor([float(v) for v in box.low], dtype=torch.float64).float()
        self.near_high = torch.tensor([float(v) for v in box.high], dtype=torch.float64).float()
        for inputs, ends, others, towards in (
            (box.open_low, self.near_low, self.near_high, math.inf),
            (box.open_high, self.near_high, self.near_low, -math.inf),
        ):
            for i in inputs:  # The first number inside, where there is one.
                limit = box.low[i] if towards > 0 else box.high[i]
                if (limit - Fraction(float(ends[i]))) * (1 if towards > 0 else -1) >= 0:
                    ends[i] = torch.nextafter(ends[i], torch.tensor(towards))
                ends[i] = torch.minimum(ends[i], others[i]) if towards > 0 else torch.maximum(ends[i], others[i])
        low = torch.tensor([_below(v) for v in box.low], dtype=torch.float64)
        high = torch.tensor([-_below(-v) for v in box.high], dtype=torch.float64)
        low, high = torch.minimum(low, self.near_low.double()), torch.maximum(high, self.near_high.double())
        self.region = Region.box(low[None], high[None])
        rows = [(k, c) for k, conjunction in enumerate(box.conjunctions) for c in conjunction]
        self.conjunctions = len(box.conjunctions)
        self.coefficients = torch.zeros(len(rows), outputs, dtype=torch.float64)
        for row, (_, constraint) in enumerate(rows):
            for output, factor in constraint.coefficients:
                self.coefficients[row, output] = float(factor)
        self.limits = torch.tensor([-_below(-c.limit) for _, c in rows], dtype=torch.float64)
        self.owners = torch.tensor([k for k, _ in rows], dtype=torch.int64)
        self.counterexample: Counterexample | None = None

    def worst(self, margins: Tensor) -> Tensor:
        """The largest margin of each conjunction: it is met where this is at most 0, and only there.

        Args:
            margins: Of every constraint, its left side less its limit, (N, K).

        Returns:
            (N, conjunctions); minus infinity for a conjunction without constraints.
        """
        start = margins.new_full((len(margins), self.conjunctions), -torch.inf)
        return start.scatter_reduce(1, self.owners.expand(len(margins), -1), margins, "amax")

    def margins(self, outputs: Tensor) -> Tensor:
        """Left sides of all constraints less their limits, (N, K).

        Args:
            outputs: (N, outputs).
        """
        return outputs @ self.coefficients.t().to(outputs) - self.limits.to(outputs)

    def broken(self, points: Tensor) -> Tensor:
        """Which points are counterexamples, confirmed by the net and the file's own runtime; the first is kept.

        Args:
            points: (M, D), within the region.

        Returns:
            bool (M,), true for at most one.
        """
        near = torch.minimum(torch.maximum(points.float(), self.near_low), self.near_high)
        with torch.no_grad():
            outputs = self.flat(near)
        worst, which = self.worst(self.margins(outputs.double())).min(1)
        answer = torch.zeros(len(points), dtype=torch.bool)
        for row in (worst <= 0).nonzero().flatten().tolist()[:8]:
            if self._confirmed(near[row], int(which[row])):
                answer[row] = True
                break
        return answer

    def attack(self, *, late: Callable[[], bool], seed: int = 0, restarts: int = RESTARTS) -> bool:
        """Look for a counterexample: corners and random points, then signed gradients of what is not met yet.

        Args:
            late: Turns true when it is to stop.
            seed: Of the points.
            restarts: Points to begin from.

        Returns:
            Whether there is one, kept in `counterexample`.
        """
        generator = torch.Generator().manual_seed(seed)
        count = max(restarts, self.conjunctions)
        low, high = self.near_low, self.near_high
        noise = torch.rand(count, len(low), generator=generator)
        noise[0] = 0.5
        noise[1 : count // 2] = noise[1 : count // 2].round()
        points = torch.minimum(torch.maximum(low + (high - low) * noise, low), high)
        goal = torch.arange(count) % self.conjunctions
        for step in range(_STEPS + 1):
            if bool(self.broken(points).any()):
                return True
            if step == _STEPS or late():
                return False
            points = self._step(points, goal, 0.25 * 0.93**step)
        return False

    def _step(self, points: Tensor, goal: Tensor, share: float) -> Tensor:
        """One step of signed gradients, a share of the box wide; rows take turns in what they lower."""
        points = points.detach().requires_grad_()
        margins = self.margins(self.flat(points))
        worst = self.worst(margins).gather(1, goal[:, None])[:, 0]
        unmet = (margins.clamp(min=0) * (self.owners == goal[:, None])).sum(1)
        loss = torch.where(torch.arange(len(points)) % 3 == 0, unmet, worst.clamp(min=-1e30))
        (gradient,) = torch.autograd.grad(loss.sum(), points)
        moved = points.detach() - share * (self.near_high - self.near_low) * gradient.sign()
        return torch.minimum(torch.maximum(moved, self.near_low), self.near_high)

    def _confirmed(self, point: Tensor, conjunction: int) -> bool:
        """Whether it is one by the net on this input alone, and by the file's own runtime."""
        constraints = self._box.conjunctions[conjunction]
        with torch.no_grad():
            answers = [self.flat(point[None])[0].double()]
        if self._own is not None:
            answers.append(self._own(point))
        lists = [answer.tolist() for answer in answers]
        if not all(_met(constraints, outputs) for outputs in lists):
            return False
        box = self._box
        inputs = [
            float(min(max(Fraction(value), low), high))
            for value, low, high in zip(point.tolist(), box.low, box.high, strict=True)
        ]
        if any(inputs[i] <= box.low[i] for i in box.open_low) or any(inputs[i] >= box.high[i] for i in box.open_high):
            return False
        self.counterexample = Counterexample(inputs, lists[-1])
        return True


def _met(constraints: Sequence[OutputConstraint], outputs: list[float]) -> bool:
    return all(map(math.isfinite, outputs)) and all(constraint.holds(outputs) for constraint in constraints)


def _below(value: Fraction) -> float:
    """The largest float64 that is at most a number."""
    nearest = float(value)
    return math.nextafter(nearest, -math.inf) if Fraction(nearest) > value else nearest
