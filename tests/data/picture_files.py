"""Picture files written by hand, as no library writes them."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

_PASSES = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
_COLOUR_TYPES = {1: 0, 2: 4, 3: 2, 4: 6}


def file_of(picture: Image.Image, kind: str, **options: Any) -> bytes:
    """A picture as Pillow writes it."""
    stream = io.BytesIO()
    picture.save(stream, kind, **options)
    return stream.getvalue()


def png_of(pixels: np.ndarray, *, interlaced: bool = False) -> bytes:
    """A PNG of 16 bits: uint16 (H, W) or (H, W, C), C being 2 to 4."""

    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    def rows(part: np.ndarray) -> bytes:
        return b"".join(b"\0" + row.astype(">u2").tobytes() for row in part) if part.size else b""

    planes = pixels.reshape(*pixels.shape[:2], -1)
    passes = [planes[y::dy, x::dx] for x, y, dx, dy in _PASSES] if interlaced else [planes]
    head = struct.pack(
        ">IIBBBBB", planes.shape[1], planes.shape[0], 16, _COLOUR_TYPES[planes.shape[2]], 0, 0, interlaced
    )
    data = zlib.compress(b"".join(rows(part) for part in passes))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def tiff_of(
    pixels: np.ndarray,
    *,
    order: str = "<",
    deflated: bool = False,
    photometric: int | None = None,
    orientation: int = 1,
) -> bytes:
    """A TIFF of one strip: (H, W) or (H, W, 3), of any integers or floats."""
    channels = 1 if pixels.ndim == 2 else pixels.shape[2]
    data = pixels.astype(pixels.dtype.newbyteorder(order)).tobytes()
    data = zlib.compress(data) if deflated else data
    meant = photometric if photometric is not None else (1 if channels == 1 else 2)
    kind = {"u": 1, "i": 2, "f": 3}[pixels.dtype.kind]
    bits, height, width = pixels.dtype.itemsize * 8, *pixels.shape[:2]
    tags = [(256, 4, 1, width), (257, 4, 1, height), (258, 3, channels, bits), (259, 3, 1, 8 if deflated else 1)]
    tags += [(262, 3, 1, meant), (273, 4, 1, 0), (274, 3, 1, orientation), (277, 3, 1, channels), (278, 4, 1, height)]
    tags += [(279, 4, 1, len(data)), (339, 3, channels, kind)]
    spilled = 8 + 2 + 12 * len(tags) + 4
    start = spilled + sum(2 * count for _, code, count, _ in tags if code == 3 and count > 2)
    rows, extra = b"", b""
    for tag, code, count, value in tags:
        packed = struct.pack(order + "H" * count, *[value] * count) if code == 3 else struct.pack(order + "I", value)
        packed = struct.pack(order + "I", start) if tag == 273 else packed
        if len(packed) > 4:
            packed, extra = struct.pack(order + "I", spilled + len(extra)), extra + packed
        rows += struct.pack(order + "HHI", tag, code, count) + packed.ljust(4, b"\0")
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "IH", 8, len(tags))
    return head + rows + b"\0" * 4 + extra + data


def folder_of(root: Path, files: Mapping[str, bytes]) -> str:
    """Write files by their relative names, and give the data source of their folder."""
    for name, body in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(body)
    return f"folder:{root}"
