"""Safetensors files: read as numbers, and written with metadata in the same bytes every time."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load

from audit.config import TrustConfig
from audit.core.errors import ModelError
from audit.core.registry import model_format
from audit.models.checkpoint_entries import unwrapped
from audit.models.compression.compress import unpack
from audit.models.files import read_whole
from audit.models.loaded import CheckpointContent

CUT = "cut"
"""The metadata entry of a net that has fewer channels than its architecture."""
_ALIGNED = 8


@model_format(suffixes=(".safetensors",), reference="https://huggingface.co/docs/safetensors")
def safetensors(path: Path, _trust: Sequence[TrustConfig] = ()) -> CheckpointContent:
    """The state dict of a .safetensors file, int8 weights widened to float32; nothing in it can run.

    Args:
        path: The file.

    Raises:
        ModelError: When it is damaged or holds no state dict.
    """
    return read_safetensors(read_whole(path), path.name)


def read_safetensors(body: bytes, name: str) -> CheckpointContent:
    """The state dict in the bytes of a safetensors file, int8 weights widened to float32.

    Args:
        body: The file's bytes.
        name: Its name, for errors.

    Raises:
        ModelError: When it is damaged or holds no state dict.
    """
    try:
        state = dict(sorted(load(body).items()))  # it gives them in another order in every process
    except (SafetensorError, ValueError, KeyError, TypeError) as fault:
        raise ModelError(f"{name} is not a whole safetensors file ({fault}); export or download it again.") from fault
    return replace(unwrapped(unpack(state), name), cut=CUT in metadata_of(body))


def is_safetensors(body: bytes) -> bool:
    """Whether a file is safetensors, whatever its name: a length, then JSON of that length.

    Args:
        body: The file's bytes.
    """
    return body[8:9] == b"{" and int.from_bytes(body[:8], "little") <= len(body) - 8


def with_metadata(packed: bytes, metadata: Mapping[str, str]) -> bytes:
    """Add metadata to a safetensors file, names sorted: the library writes them in random order.

    The format is eight bytes of length, that much JSON padded with spaces, then the numbers; their offsets count from
    the end of the JSON and stay as they are.

    Args:
        packed: The file's bytes, without metadata.
        metadata: Names and values.

    Returns:
        The bytes of the file with metadata.
    """
    tensors, length = _header(packed)
    notes = {name: metadata[name] for name in sorted(metadata)}
    header = json.dumps({"__metadata__": notes, **tensors}, separators=(",", ":"), ensure_ascii=False).encode()
    header += b" " * (-len(header) % _ALIGNED)
    return struct.pack("<Q", len(header)) + header + packed[8 + length :]


def metadata_of(packed: bytes) -> Mapping[str, str]:
    """The metadata of a safetensors file.

    Args:
        packed: The whole file's bytes.

    Returns:
        Names and values; empty where there are none.
    """
    metadata: Mapping[str, str] = _header(packed)[0].get("__metadata__") or {}
    return metadata


def _header(packed: bytes) -> tuple[dict[str, Any], int]:
    """The header and its length in bytes."""
    (length,) = struct.unpack("<Q", packed[:8])
    return json.loads(packed[8 : 8 + length]), length
