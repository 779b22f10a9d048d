"""Calls that write into their input, turned into calls that do not, on a graph traced by torch.fx.

torch.fx records `out.add_(x)` as a call whose result nobody reads, since the forward goes on with `out`: whoever walks
the graph misses what was added. Here the call gives a new tensor, and what came later reads that one.
"""

from __future__ import annotations

import inspect
import operator
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, fx

_OPERATORS = {
    operator.iadd: operator.add,
    operator.isub: operator.sub,
    operator.imul: operator.mul,
    operator.itruediv: operator.truediv,
    operator.imatmul: operator.matmul,
    operator.ipow: operator.pow,
}


def without_in_place_calls(graph: fx.GraphModule) -> None:
    """Change the graph so that no call of its forward writes into a tensor that another node gave.

    A write through a view of a tensor that is read again later stays unseen: compare outputs.

    Args:
        graph: The traced net, changed.
    """
    order = {node: number for number, node in enumerate(graph.graph.nodes)}
    for node in list(graph.graph.nodes):
        written = _made_pure(graph, node)
        if isinstance(written, fx.Node):
            for user in list(written.users):
                if order[user] > order[node]:
                    user.replace_input_with(written, node)


def _made_pure(graph: fx.GraphModule, node: fx.Node) -> Any:
    """The node that the call wrote into, now untouched; None where it wrote into none."""
    if node.op == "call_module":
        return node.args[0] if getattr(graph.get_submodule(str(node.target)), "inplace", False) and node.args else None
    if node.op not in ("call_function", "call_method"):
        return None
    if "out" in node.kwargs:
        options = dict(node.kwargs)
        written = options.pop("out")
        node.kwargs = options
        return written
    pure = _OPERATORS.get(node.target) if callable(node.target) else None
    pure = pure or _without_underscore(node.target)
    if pure is not None:
        node.target = pure
        return node.args[0] if node.args else node.kwargs.get("input")
    return _without_flag(node)


def _without_underscore(target: Any) -> Any:
    """`add` for `add_`, of the methods of tensors and the functions of torch; None for anything else."""
    name = target if isinstance(target, str) else getattr(target, "__name__", "")
    if not name.endswith("_") or name.endswith("__"):
        return None
    if isinstance(target, str):
        return name[:-1] if hasattr(Tensor, name[:-1]) else None
    rooms = (torch, torch.nn.functional)
    return next((getattr(room, name[:-1]) for room in rooms if callable(getattr(room, name[:-1], None))), None)


def _without_flag(node: fx.Node) -> Any:
    """What a function with an `inplace` parameter wrote into, the parameter now False."""
    if node.op != "call_function":
        return None
    function: Callable[..., Any] = node.target  # type: ignore[assignment]
    try:
        bound = inspect.signature(function).bind(*node.args, **node.kwargs)
    except (TypeError, ValueError):
        return None
    if not bound.arguments.get("inplace"):
        return None
    bound.arguments["inplace"] = False
    node.args, node.kwargs = bound.args, bound.kwargs
    return next(iter(bound.arguments.values()))
