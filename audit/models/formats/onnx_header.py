"""What an ONNX file that was written here says of itself, such as its classes: entries of its metadata."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from audit.core.errors import SetupError

if TYPE_CHECKING:
    from onnx import ModelProto

_BEGIN = 64
"""Bytes among which a file names its producer."""
PRODUCER = "audit"
"""Who wrote a file; the entries of files by others are not read."""


def parsed(file: bytes) -> ModelProto:
    """The model of a file.

    Args:
        file: The bytes of the file.

    Raises:
        SetupError: Without the extra `onnx`.
    """
    try:
        return import_module("onnx").load_from_string(file)  # type: ignore[no-any-return]
    except ImportError as fault:
        raise SetupError("An ONNX file needs onnx; install it with pip install 'audit[onnx]'.") from fault


def with_header(file: bytes, header: Mapping[str, str]) -> bytes:
    """The file with entries in its metadata.

    Args:
        file: The bytes of the file.
        header: The entries.
    """
    proto = parsed(file)
    proto.producer_name = PRODUCER
    del proto.metadata_props[:]
    for key, value in sorted(header.items()):
        entry = proto.metadata_props.add()
        entry.key, entry.value = key, value
    return bytes(proto.SerializeToString(deterministic=True))


def header_of(path: Path) -> dict[str, str]:
    """The entries of a file that was written here; empty for any other, or one that cannot be read.

    Args:
        path: The file.
    """
    try:
        with path.open("rb") as file:
            begin = file.read(_BEGIN)
            if PRODUCER.encode() not in begin:
                return {}
            proto = parsed(begin + file.read())
    except Exception:  # the reader of the format says what is wrong with the file
        return {}
    return {entry.key: entry.value for entry in proto.metadata_props} if proto.producer_name == PRODUCER else {}
