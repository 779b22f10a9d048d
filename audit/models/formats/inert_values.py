"""Numbers, times and paths that trainers keep in a checkpoint beside the weights, read without running their code.

A pickle names the functions that make such values. Each name of a fixed list is bound to a stand-in while a file is
read, so nothing of numpy, datetime or pathlib runs on bytes that nobody vouched for.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from math import prod
from typing import Any

import numpy as np

_PLAIN = re.compile(r"[<>=|]?(f[248]|[iu][1248]|b1|\?)")


class _Dtype:
    """The type of an array's numbers."""

    def __init__(self, code: str = "", *_: Any) -> None:
        self.code, self.order = str(code), "="

    def __setstate__(self, state: Any) -> None:
        if isinstance(state, tuple) and len(state) > 1 and state[1] in ("<", ">", "=", "|"):
            self.order = state[1]

    def decode(self, raw: Any, shape: tuple[int, ...]) -> Any:
        """The array of plain numbers that bytes hold; None for others."""
        if not _PLAIN.fullmatch(self.code) or not isinstance(raw, bytes | bytearray):
            return None
        kind = np.dtype(self.code).newbyteorder(">" if self.order == ">" else "<" if self.order == "<" else "=")
        if len(raw) != kind.itemsize * prod(shape):
            return None
        return np.frombuffer(raw, kind).reshape(shape).astype(kind.newbyteorder("="))


class _Array:
    """An array, made empty and then given its numbers."""

    value: Any = None

    def __init__(self, *_: Any) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        if not (isinstance(state, tuple) and len(state) == 5 and isinstance(state[2], _Dtype)):
            return
        _, shape, kind, fortran, raw = state
        if not (isinstance(shape, tuple) and all(isinstance(side, int) and side >= 0 for side in shape)):
            return
        value = kind.decode(raw, shape[::-1] if fortran else shape)
        self.value = value.T if fortran and value is not None else value


class _Inert:
    """Any value that is looked at by nobody."""

    def __new__(cls, *_: Any) -> _Inert:
        """Take whatever the original would take."""
        return super().__new__(cls)

    def __init__(self, *_: Any) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        pass


def _entries(*_: Any) -> dict[Any, Any]:
    """A dictionary in place of one with a default."""
    return {}


def _items(items: Any = (), *_: Any) -> list[Any]:
    """A list in place of one with two ends."""
    return list(items) if isinstance(items, list | tuple) else []


def _scalar(kind: Any = None, raw: Any = None, *_: Any) -> Any:
    value = kind.decode(raw, ()) if isinstance(kind, _Dtype) else None
    return _Inert() if value is None else value.item()


def _array(*_: Any) -> _Array:
    return _Array()


_FACTORIES = ("int", "float", "bool", "str", "bytes", "list", "dict", "tuple", "frozenset", "slice", "range")
_NUMBERS = (
    *("float16", "float32", "float64", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"),
    *("bool_", "bool", "float_", "int_"),
)
_NUMPY = {"multiarray.scalar": _scalar, "multiarray._reconstruct": _array}
_INERT_NAMES = (
    *("datetime.datetime", "datetime.date", "datetime.time", "datetime.timedelta", "datetime.timezone"),
    *(f"{module}.{name}" for module in ("pathlib", "pathlib._local") for name in ("PosixPath", "WindowsPath", "Path")),
    *(f"{module}.Pure{name}" for module in ("pathlib", "pathlib._local") for name in ("PosixPath", "WindowsPath")),
    *("uuid.UUID", "decimal.Decimal", "fractions.Fraction"),
    *(f"{module}.{name}" for module in ("builtins", "__builtin__") for name in _FACTORIES),
    *(f"numpy.{name}" for name in _NUMBERS),
)
STAND_INS: Mapping[str, Callable[..., Any]] = {
    "numpy.dtype": _Dtype,
    "numpy.ndarray": _Array,
    **{f"numpy.{core}.{name}": value for core in ("core", "_core") for name, value in _NUMPY.items()},
    "collections.defaultdict": _entries,
    "collections.deque": _items,
    **dict.fromkeys(_INERT_NAMES, _Inert),
}
"""By the name that a pickle asks for, what makes a harmless value in its place."""


def settled(content: Any) -> Any:
    """The content of a file with arrays of numbers in place of what stood in for them.

    Args:
        content: What was read.
    """
    if isinstance(content, _Array):
        return content.value
    if isinstance(content, dict):
        for key, value in content.items():
            if isinstance(value, dict | list | tuple | _Array):
                content[key] = settled(value)
        return content
    if type(content) in (list, tuple):
        return type(content)([settled(item) for item in content])
    return content
