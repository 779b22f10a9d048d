"""What stands beside the weights in a safetensors file, in the same bytes every time: the library shuffles it."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping

_ALIGNED = 8


def with_metadata(packed: bytes, metadata: Mapping[str, str]) -> bytes:
    """`packed`, a safetensors file without metadata, with `metadata` before its tensors, names sorted.

    The format: eight bytes of length, that much JSON padded with spaces, then the numbers; their offsets count from
    the end of the JSON and stay as they are.
    """
    (length,) = struct.unpack("<Q", packed[:8])
    tensors = json.loads(packed[8 : 8 + length])
    notes = {name: metadata[name] for name in sorted(metadata)}
    head = json.dumps({"__metadata__": notes, **tensors}, separators=(",", ":"), ensure_ascii=False).encode()
    head += b" " * (-len(head) % _ALIGNED)
    return struct.pack("<Q", len(head)) + head + packed[8 + length :]
