"""What a file that is no readable picture is instead, by its first bytes: a sentence says it and what to do."""

from __future__ import annotations

import struct
from collections.abc import Sequence

_ELSEWHERE = "which is not read here; save it as JPEG or PNG"
_KINDS: Sequence[tuple[int, tuple[bytes, ...], str]] = (
    (0, (b"version https://git-lfs",), "it is a Git LFS pointer in place of the picture; git lfs pull fetches that"),
    (4, (b"ftypavif", b"ftypavis"), "it is an AVIF picture, which this Pillow does not read; save it as JPEG or PNG"),
    (4, (b"ftyphei", b"ftyphev", b"ftypmif1", b"ftypmsf1"), f"it is a HEIC picture, {_ELSEWHERE}"),
    (0, (b"\0\0\0\x0cjP  ", b"\xff\x4f\xff\x51"), f"it is a JPEG 2000 picture, {_ELSEWHERE}"),
    (0, (b"\0\0\0\x0cJXL ", b"\xff\x0a"), f"it is a JPEG XL picture, {_ELSEWHERE}"),
    (128, (b"DICM",), "it is a DICOM file, which is not read here; save its pixels as PNG or TIFF of 16 bits"),
    (
        0,
        (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"),
        "it is a TIFF picture, damaged or of a kind that Pillow does not read, such as 64-bit numbers or floats of "
        "several channels; save it with 8 or 16 bits a channel",
    ),
    (0, (b"\x89PNG", b"\xff\xd8\xff", b"GIF8", b"BM"), "it begins like a picture, and its header is damaged"),
    (
        0,
        (b"<!DOCTYPE html", b"<!doctype html", b"<html"),
        "it is a web page in place of the picture; download it again",
    ),
)


def unread_kind(body: bytes, readable: Sequence[str]) -> str:
    """Why a file is no picture, to end a sentence that names the file.

    Args:
        body: Its bytes.
        readable: The formats that are read.
    """
    if not body:
        return "it is empty"
    bands = _tiff_bands(body)
    if bands not in (None, 1, 3):
        return (
            f"it is a TIFF picture of {bands} bands, and those of 1 or 3 are read; save the three that the model sees"
        )
    for offset, beginnings, sentence in _KINDS:
        if body[offset:].startswith(beginnings):
            return sentence
    return f"it is no {', '.join(readable[:-1])} or {readable[-1]} picture"


def _tiff_bands(body: bytes) -> int | None:
    """The samples a pixel of a TIFF's first picture (TIFF 6.0, tag 277); None where the file does not say."""
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(body[:4])
    try:
        if order is None:
            return None
        (start,) = struct.unpack_from(f"{order}I", body, 4)
        (count,) = struct.unpack_from(f"{order}H", body, start)
        entries = (struct.unpack_from(f"{order}HHIH", body, start + 2 + 12 * i) for i in range(count))
        return next((value for tag, _, _, value in entries if tag == 277), None)
    except struct.error:
        return None
