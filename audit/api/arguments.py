"""The kinds of arguments that the public functions take, checked by the name of the parameter."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from audit.api.names_of_peers import refuse_names_of_peers
from audit.config import RunConfig
from audit.core.errors import DataError, UsageError
from audit.core.threat import ThreatModel
from audit.models.under_test import ModelUnderTest

F = TypeVar("F", bound=Callable[..., Any])


def checked(function: F, name: str) -> F:
    """A public function that says which of its arguments is of the wrong kind, before it does anything.

    Args:
        function: The function.
        name: What `audit` offers it as.

    Returns:
        The function, with the same signature.
    """
    signature = inspect.signature(function)
    door = f"audit.{name}"

    @functools.wraps(function)
    def call(*given: Any, **named: Any) -> Any:
        refuse_names_of_peers(door, signature, named)
        try:
            bound = signature.bind(*given, **named)
        except TypeError as fault:
            raise UsageError(f"{door}: {fault}.") from None
        bound.arguments |= {name: _plain(bound.arguments[name]) for name in _PLAIN if name in bound.arguments}
        for name, value in bound.arguments.items():
            if name in _KINDS and value is not signature.parameters[name].default:
                _require(door, name, value)
        if not isinstance(bound.arguments.get("images", torch.empty(0)), Tensor | np.ndarray):
            pixels = np.asarray(bound.arguments["images"])
            bound.arguments["images"] = pixels.astype(np.float32) if pixels.dtype == np.float64 else pixels
        return function(*bound.args, **bound.kwargs)

    return call  # type: ignore[return-value]


def _require(function: str, name: str, value: Any) -> None:
    expected, fits = _KINDS[name]
    if not fits(value):
        error = DataError if name in ("images", "labels", "maps", "masks") else UsageError
        raise error(f"{function}: {name} is {_described(value)}, where {expected} was expected.")


def _described(value: Any) -> str:
    if isinstance(value, bool | int | float | str | list | tuple | dict) and len(repr(value)) < 40:
        return repr(value)
    return f"of type {type(value).__name__}"


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_shape(value: Any) -> bool:
    return isinstance(value, Sequence) and len(value) == 3 and all(_is_count(side) and side > 0 for side in value)


def _are_names(value: Any) -> bool:
    return isinstance(value, Sequence) and all(isinstance(name, str) for name in value)


def _plain(value: Any) -> Any:
    """NumPy's and torch's numbers as Python's, and a row of them, such as scikit-learn's `classes_`, as a list."""
    return value.tolist() if isinstance(value, np.generic | np.ndarray | Tensor) and value.ndim < 2 else value


def _are_classes(value: Any) -> bool:
    return _is_count(value) or (isinstance(value, Sequence) and not isinstance(value, str | bytes))


def _are_numbers(value: Any) -> bool:
    def is_number(item: Any) -> bool:
        return isinstance(item, int | float) or (hasattr(item, "__float__") and getattr(item, "ndim", 0) == 0)

    if is_number(value):
        return True
    return hasattr(value, "__iter__") and not isinstance(value, str | Mapping) and all(map(is_number, value))


def _are_eps(value: Any) -> bool:
    return hasattr(value, "__iter__") and _are_numbers(value)


def _hold_values(value: Any) -> bool:
    """Whether numbers can be read out of it."""
    if isinstance(value, Tensor):
        return value.layout == torch.strided and value.device.type != "meta" and not value.is_complex()
    try:
        return np.asarray(value).dtype.kind in "biuf"
    except (TypeError, ValueError, RuntimeError):
        return False


def _is_config(value: Any) -> bool:
    return isinstance(value, RunConfig | Mapping | str | Path)


_PLAIN = ("classes", "seed", "input_shape", "severity")
"""Parameters that take numbers and names of NumPy and torch, too."""
_MODEL = "a model from audit.wrap"
_KINDS: Mapping[str, tuple[str, Callable[[Any], bool]]] = {
    "model": (_MODEL, lambda value: isinstance(value, ModelUnderTest)),
    "threat": ("an audit.ThreatModel", lambda value: isinstance(value, ThreatModel)),
    "classes": ("the number of classes or a list of their names", _are_classes),
    "input_shape": ("(channels, height, width)", _is_shape),
    "mean": ("a number or one a channel", _are_numbers),
    "std": ("a number or one a channel", _are_numbers),
    "device": ("a name such as cpu or a torch device", lambda value: isinstance(value, str | torch.device)),
    "images": ("a dense tensor or array of numbers (N, channels, height, width)", _hold_values),
    "labels": ("a tensor, an array or a list of whole numbers", _hold_values),
    "maps": ("a tensor or array of numbers (N, channels or 1, height, width)", _hold_values),
    "masks": ("a tensor or array, true where the object is, (N, height, width)", _hold_values),
    "severity": ("a whole number from 1 to 5", _is_count),
    "eps": ("a list of numbers", _are_eps),
    "battery": ("the name of a battery", lambda value: isinstance(value, str)),
    "attacks": ("a list of names of attacks", _are_names),
    "method": ("the name of a method", lambda value: isinstance(value, str)),
    "norm": ("linf, l2, l1 or l0", lambda value: isinstance(value, str)),
    "seed": ("a whole number", _is_count),
    "config": ("a configuration, the path of one, or a mapping of its keys", _is_config),
    "out": ("the path of a folder", lambda value: isinstance(value, str | Path)),
    "architecture": ("the name of an architecture", lambda value: isinstance(value, str)),
}
"""By parameter, what is expected in words, and whether a value is that. A parameter's default is always accepted."""
