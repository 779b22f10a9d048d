"""Recurrent ONNX operators, step by step: LSTM (https://onnx.ai/onnx/operators/onnx__LSTM.html)."""

from __future__ import annotations

from typing import Any

import torch

from audit.models.formats.onnx_node import Node, operator_of

_DIRECTIONS = {"forward": (1,), "reverse": (-1,), "bidirectional": (1, -1)}
_USUAL = ["Sigmoid", "Tanh", "Tanh"]


@operator_of("LSTM")
def _lstm(
    node: Node,
    values: Any,
    weights: Any,
    recurrent: Any,
    bias: Any = None,
    lengths: Any = None,
    hidden: Any = None,
    cell: Any = None,
    peepholes: Any = None,
) -> Any:
    directions = _DIRECTIONS[node.get("direction", "forward")]
    usual = [name.lower() for name in node.get("activations") or _USUAL * len(directions)]
    if usual != [name.lower() for name in _USUAL] * len(directions) or node.get("clip") or node.get("input_forget", 0):
        raise TypeError("an LSTM of other gates than the usual is not converted")
    if lengths is not None or peepholes is not None or node.get("layout", 0):
        raise TypeError("an LSTM with sequence lengths, peepholes or the batch first is not converted")
    runs = []
    for index, way in enumerate(directions):
        start = (None if state is None else state[index] for state in (hidden, cell))
        offset = None if bias is None else sum(bias[index].chunk(2))
        runs.append(_one_way(values.flip(0) if way < 0 else values, weights[index], recurrent[index], offset, *start))
    steps = [outputs.flip(0) if way < 0 else outputs for (outputs, _, _), way in zip(runs, directions, strict=True)]
    return torch.stack(steps, 1), torch.stack([last for _, last, _ in runs]), torch.stack([c for _, _, c in runs])


def _one_way(values: Any, weights: Any, recurrent: Any, offset: Any, hidden: Any, cell: Any) -> Any:
    """Outputs of each step (T, N, H), and the last hidden and cell states (N, H)."""
    arriving = values @ weights.T + (0.0 if offset is None else offset)
    outputs = []
    for gates in arriving.unbind(0):
        gates = gates if hidden is None else gates + hidden @ recurrent.T
        entry, exit_, forget, candidate = gates.chunk(4, 1)
        fresh = torch.sigmoid(entry) * torch.tanh(candidate)
        cell = fresh if cell is None else torch.sigmoid(forget) * cell + fresh
        hidden = torch.sigmoid(exit_) * torch.tanh(cell)
        outputs.append(hidden)
    return torch.stack(outputs), hidden, cell
