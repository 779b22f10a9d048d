"""Pickles of plain arrays, as CIFAR-10 is published, read without running anything they name."""

from __future__ import annotations

import io
import math
import pickle
from typing import Any

import numpy as np
from numpy.typing import NDArray

from audit.core.errors import DataError, UntrustedError

_KINDS = ("u1", "i1", "i2", "i4", "i8", "f4", "f8")


def read_number_pickle(body: bytes, name: str) -> dict[str, Any]:
    """Read a pickled dictionary of arrays, lists, numbers and bytes.

    Args:
        body: The pickle.
        name: Its file name, for errors.

    Returns:
        The dictionary, its keys as text.

    Raises:
        UntrustedError: When the pickle names anything that could run.
        DataError: When it is damaged or holds no dictionary.
    """
    try:
        content = _NumbersOnly(io.BytesIO(body), encoding="bytes").load()
    except UntrustedError as refusal:
        raise UntrustedError(f"{name} {refusal}") from None
    except Exception as fault:  # a damaged pickle raises whatever its opcodes stumble on
        raise DataError(f"{name} is cut short or damaged ({fault}); download it again.") from fault
    if not isinstance(content, dict):
        raise DataError(f"{name} holds {type(content).__name__}, where a dictionary was expected; download it again.")
    return {_text(key): _array(value, name) if isinstance(value, _Array) else value for key, value in content.items()}


class _Kind:
    """Stands for numpy.dtype: notes what is asked for and builds nothing."""

    def __init__(self, name: Any = "", *ignored: Any) -> None:
        self.name = _text(name)
        self.order = "|"

    def __setstate__(self, state: Any) -> None:
        self.order = _text(state[1])


class _Array:
    """Stands for numpy.ndarray: keeps the state that numpy would get."""

    def __init__(self, *ignored: Any) -> None:
        self.state: Any = None

    def __setstate__(self, state: Any) -> None:
        self.state = state


def _latin1(text: Any, encoding: Any) -> bytes:
    """Stands for _codecs.encode, by which Python 3 writes bytes into old pickles."""
    if not isinstance(text, str) or encoding not in ("latin1", b"latin1"):
        raise ValueError("bytes written in an unexpected way")
    return text.encode("latin-1")


_STAND_INS = {
    "numpy.core.multiarray._reconstruct": _Array,
    "numpy._core.multiarray._reconstruct": _Array,
    "numpy.ndarray": _Array,
    "numpy.dtype": _Kind,
    "_codecs.encode": _latin1,
}


class _NumbersOnly(pickle.Unpickler):
    """Any name but those of numpy's own pickles is refused, and those only seem to be called."""

    def find_class(self, module: str, name: str) -> Any:
        if f"{module}.{name}" in _STAND_INS:
            return _STAND_INS[f"{module}.{name}"]
        raise UntrustedError(
            f"asks for {module}.{name}, which is code; only arrays, bytes, lists and dictionaries are read. Download "
            "the data set from its own site."
        )


def _array(pickled: _Array, name: str) -> NDArray[Any]:
    try:
        _, shape, kind, by_columns, raw = pickled.state
        if not isinstance(kind, _Kind) or kind.name.lstrip("<>|=") not in _KINDS or not isinstance(raw, bytes):
            raise UntrustedError(
                f"{name} holds an array of objects, which could run code; plain numbers were expected."
            )
        order = kind.order if kind.order in "<>" else "="
        flat = np.frombuffer(raw, dtype=np.dtype(order + kind.name.lstrip("<>|=")))
        if flat.size != math.prod(shape):
            raise ValueError(f"{flat.size} values for shape {shape}")
        return flat.reshape(shape, order="F" if by_columns else "C")
    except (TypeError, ValueError) as fault:
        raise DataError(f"{name} holds a damaged array ({fault}); download it again.") from fault


def _text(value: Any) -> str:
    return value.decode("latin-1") if isinstance(value, bytes) else str(value)
