"""What stands beside the weights in a safetensors file, in the same bytes every time: the library shuffles it."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from typing import Any

CUT = "cut"
"""The name under which a file says that its net has fewer channels than its architecture."""
_ALIGNED = 8


def with_metadata(packed: bytes, metadata: Mapping[str, str]) -> bytes:
    """`packed`, a safetensors file without metadata, with `metadata` before its tensors, names sorted.

    The format: eight bytes of length, that much JSON padded with spaces, then the numbers; their offsets count from
    the end of the JSON and stay as they are.
    """
    tensors, length = _head(packed)
    notes = {name: metadata[name] for name in sorted(metadata)}
    head = json.dumps({"__metadata__": notes, **tensors}, separators=(",", ":"), ensure_ascii=False).encode()
    head += b" " * (-len(head) % _ALIGNED)
    return struct.pack("<Q", len(head)) + head + packed[8 + length :]


def metadata_of(packed: bytes) -> Mapping[str, str]:
    """The metadata of a whole safetensors file; empty where it has none."""
    found: Mapping[str, str] = _head(packed)[0].get("__metadata__") or {}
    return found


def _head(packed: bytes) -> tuple[dict[str, Any], int]:
    (length,) = struct.unpack("<Q", packed[:8])
    return json.loads(packed[8 : 8 + length]), length
