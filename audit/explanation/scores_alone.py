"""A traced net that returns its scores alone, where the model returns them among other tensors."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from torch import fx

from audit.core.errors import NotApplicable
from audit.core.note import note


def with_scores_alone(net: fx.GraphModule, entry: str) -> fx.GraphModule:
    """A traced net that returns the scores alone, where it returns several tensors; it is changed.

    Args:
        net: The traced net.
        entry: The name of the scores among what it returns: keys and positions joined by dots; "" for a bare tensor.

    Raises:
        NotApplicable: What it returns is made by a call, so that the graph does not show where the scores are in it.
    """
    (output,) = net.graph.find_nodes(op="output")
    scores: Any = output.args[0]
    for key in entry.split(".") if entry else ():
        scores = _parts(scores).get(key)
    if not isinstance(scores, fx.Node):
        raise NotApplicable(
            note(
                "scores_in_object",
                "The model returns its scores inside an object ('{entry}'), which its traced copy does not look into; "
                "wrap it in a module that returns the scores alone.",
                entry=entry,
            )
        )
    output.args = (scores,)
    net.graph.eliminate_dead_code()
    net.recompile()
    return net


def _parts(value: Any) -> dict[str, Any]:
    """What a structure of nodes holds, by key, position or the field of the object that a call makes of it."""
    if isinstance(value, fx.Node) and isinstance(value.target, type):
        value = inspect.signature(value.target).bind(*value.args, **value.kwargs).arguments
    if isinstance(value, Mapping):
        return {str(name): part for name, part in value.items()}
    return {str(place): part for place, part in enumerate(value)} if isinstance(value, tuple | list) else {}
