"""Verification instances decided: attacked first, then proven by branch and bound over inputs or over ReLUs."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from audit.bounds.graph import BoundGraph
from audit.bounds.input_splitting import InputSplitting, Searched
from audit.bounds.ladder import Ladder
from audit.bounds.narrowing import narrowing_search
from audit.bounds.outcome import Budget
from audit.bounds.rules import RULES
from audit.bounds.trace import trace
from audit.bounds.verification_net import VerificationNet, file_answers, read_net, require_agreement
from audit.bounds.verification_query import RESTARTS, BoxQuery, Counterexample
from audit.bounds.vnnlib import VerificationProperty, read_vnnlib
from audit.core.errors import DataError, NotApplicable

FEW_INPUTS = 20
"""Inputs that are not fixed, up to which parts of the box are split instead of ReLUs."""
_ATTACK_SHARE = 0.2
"""Of the time, the most that attacks take before proofs begin."""
_SAMPLES = 3

_Verdict = Literal["sat", "unsat", "unknown"]


@dataclass(frozen=True)
class VerificationResult:
    """What is known of an instance.

    Attributes:
        verdict: "sat" with a counterexample, "unsat" where none exists, else "unknown".
        counterexample: An input of the property whose outputs meet it; None without one.
        reason: Why it is unknown, a sentence; "" where it is decided.
        parts: Parts of boxes, or sub-problems of ReLUs, that were bounded.
        seconds: What it took.
    """

    verdict: _Verdict
    counterexample: Counterexample | None = None
    reason: str = ""
    parts: int = 0
    seconds: float = 0.0


def verify_instance(net: Path, specification: Path, *, seconds: float = 60.0) -> VerificationResult:
    """Decide whether a net has an input within a property whose outputs meet it.

    "unsat" holds for the net's evaluation in float32 by direct summation in whatever order, at every input of the
    property rounded to float32 (see `audit.bounds.propagate`). "sat" is confirmed by the net, and by onnxruntime where
    it is installed.

    Args:
        net: An .onnx file, or .onnx.gz.
        specification: A .vnnlib file, or .vnnlib.gz.
        seconds: After which what is not decided is unknown. Above 0.

    Raises:
        DataError: The property is malformed, or does not fit the net.
        ModelError: The net's file is damaged.
        SetupError: onnx is not installed.
    """
    begun = time.monotonic()
    asked = read_vnnlib(specification)

    def late(share: float = 1.0) -> bool:
        return time.monotonic() - begun > share * seconds

    def result(verdict: _Verdict, found: Counterexample | None, reason: str, parts: int) -> VerificationResult:
        return VerificationResult(verdict, found, reason, parts, time.monotonic() - begun)

    try:
        loaded = read_net(net)
        _require_fit(loaded, asked, specification.name)
        if loaded.flat is None:
            return result("unknown", None, loaded.refusal, 0)
        instance = _Instance(loaded, asked)
    except NotApplicable as fault:
        return result("unknown", None, str(fault.reason), 0)
    for number, query in enumerate(instance.queries, 1):
        share = _ATTACK_SHARE * number / len(instance.queries)
        if _attacked(instance, query, partial(late, share)):
            return result("sat", query.counterexample, "", 0)
    return _proven(instance, late, seconds, result)


class _Instance:
    """A net beside its property, ready to be searched."""

    def __init__(self, net: VerificationNet, asked: VerificationProperty) -> None:
        self.net = net
        self.outputs = asked.outputs
        self.queries = [BoxQuery(net, box, asked.outputs) for box in asked.boxes]
        assert net.flat is not None
        self.flat = net.flat
        samples = self._samples()
        outputs = file_answers(net, samples)
        if outputs.shape[1] != asked.outputs:
            raise DataError(_misfit(net.name, "outputs", outputs.shape[1], "the property", asked.outputs))
        with torch.no_grad():
            try:
                require_agreement(net, lambda rows: self.flat(rows).double(), samples)
            except NotApplicable:
                if self.flat.alone:
                    raise
                self.flat.alone = True
                require_agreement(net, lambda rows: self.flat(rows).double(), samples)
        self.restarts = RESTARTS // 8 if net.inputs > 100 or self.flat.alone else RESTARTS
        self.samples = samples

    def _samples(self) -> Tensor:
        """A few inputs of the first box."""
        query = self.queries[0]
        noise = torch.rand(_SAMPLES, self.net.inputs, generator=torch.Generator().manual_seed(1))
        return query.near_low + (query.near_high - query.near_low) * noise

    def graph(self) -> BoundGraph:
        """The net's operations in float64, compared with the file. Raises NotApplicable where bounds do not hold."""
        if self.flat.alone:
            raise NotApplicable(
                f"{self.net.name} takes one input at a time, and bounds need a net that takes several: export it with "
                "an axis for the batch, of any size."
            )
        if self.net.ending in ("Softmax", "LogSoftmax"):
            raise NotApplicable(
                f"{self.net.name} ends in a softmax, which bounds do not go through; export it without, and compare "
                "logits in the property."
            )
        graph = trace(self.flat, (self.net.inputs,), RULES, torch.float64)
        require_agreement(self.net, lambda rows: graph.evaluate(rows.double())[graph.output], self.samples)
        return graph


class MetNet(nn.Module):
    """A net, and for each conjunction of a query the largest margin of its constraints: above 0 where it is not met."""

    def __init__(self, flat: nn.Module, query: BoxQuery) -> None:
        """Around the net of a query.

        Args:
            flat: Rows of inputs to rows of outputs.
            query: Whose constraints are asked; every conjunction has one at least.
        """
        super().__init__()
        self.flat = flat
        members = [(query.owners == k).nonzero().flatten() for k in range(query.conjunctions)]
        longest = max(map(len, members))
        index = torch.cat([rows[torch.arange(longest) % len(rows)] for rows in members])
        self.width = longest
        self.register_buffer("coefficients", query.coefficients[index])
        self.register_buffer("offsets", -query.limits[index])

    def forward(self, inputs: Tensor) -> Tensor:
        """The margins, (N, conjunctions).

        Args:
            inputs: (N, D).
        """
        margins = functional.linear(self.flat(inputs), self.coefficients, self.offsets)  # type: ignore[arg-type]
        margins = margins.view(len(margins), -1, self.width)
        while margins.shape[2] > 1:
            half = margins.shape[2] // 2
            first, second, rest = margins[:, :, :half], margins[:, :, half : 2 * half], margins[:, :, 2 * half :]
            largest = first + functional.relu(second - first)
            margins = torch.cat([largest, rest], 2) if rest.shape[2] else largest
        return margins.flatten(1)


def _few_inputs(query: BoxQuery) -> bool:
    return int((query.region.high > query.region.low).sum()) <= FEW_INPUTS


def _attacked(instance: _Instance, query: BoxQuery, late: Callable[[], bool]) -> bool:
    """Whether gradients find a counterexample, or where few inputs are free, random points that narrow."""
    if query.attack(late=late, restarts=instance.restarts):
        return True
    if instance.flat.alone or not _few_inputs(query):
        return False
    return narrowing_search(query, query.region.low, query.region.high, seed=0, late=late)


def _proven(
    instance: _Instance,
    late: Callable[..., bool],
    seconds: float,
    result: Callable[[_Verdict, Counterexample | None, str, int], VerificationResult],
) -> VerificationResult:
    try:
        graph = instance.graph()
    except NotApplicable as fault:
        return result("unknown", None, str(fault.reason), 0)
    parts, open_ = 0, 0
    for query in instance.queries:
        searched = _search(instance, graph, query, late)
        parts += searched.parts
        if searched.outcome == "broken":
            return result("sat", query.counterexample, "", parts)
        open_ += searched.outcome == "open"
    if open_ == 0:
        return result("unsat", None, "", parts)
    if late():
        return result("unknown", None, f"It is not decided within {seconds:g} seconds; give it more --timeout.", parts)
    return result("unknown", None, "It lies so close that the rounding of float32 decides.", parts)


def _search(instance: _Instance, graph: BoundGraph, query: BoxQuery, late: Callable[..., bool]) -> Searched:
    """Inputs are split where few are free; else ReLUs, and inputs after them where no ReLU is left to split."""
    if len(set(query.owners.tolist())) < query.conjunctions:  # asks for no more than an output, which was not finite
        return Searched("open", 0)
    if _few_inputs(query):
        return InputSplitting(graph, query, searching=True).run(late=late)
    searched = _split_relus(instance, query, late)
    if searched.outcome != "open" or late():
        return searched
    after = InputSplitting(graph, query).run(late=late)
    return Searched(after.outcome, searched.parts + after.parts)


def _split_relus(instance: _Instance, query: BoxQuery, late: Callable[..., bool]) -> Searched:
    net = MetNet(instance.flat, query)
    graph, search = (trace(net, (instance.net.inputs,), RULES, dtype) for dtype in (torch.float64, torch.float32))
    functions = torch.eye(query.conjunctions, dtype=torch.float64)[None]
    ladder = Ladder(graph, search, tie=0.0, batch_size=1)
    budget = Budget(problems=sys.maxsize)
    (outcome,) = ladder.prove(query.region, functions, lambda _, points: query.broken(points), budget, late)
    return Searched(outcome.verdict, outcome.problems)


def _require_fit(net: VerificationNet, asked: VerificationProperty, specification: str) -> None:
    if net.inputs != asked.inputs:
        raise DataError(_misfit(net.name, "inputs", net.inputs, specification, asked.inputs))
    if net.outputs and net.outputs != asked.outputs:
        raise DataError(_misfit(net.name, "outputs", net.outputs, specification, asked.outputs))


def _misfit(net: str, kind: str, own: int, specification: str, declared: int) -> str:
    return (
        f"{net} has {own} {kind} and {specification} declares {declared}: they are not of one instance. Give the "
        "property that was written for this net."
    )
