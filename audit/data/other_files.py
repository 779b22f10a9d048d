"""What a file is that none of the readers of data takes, by its first bytes: a sentence says it and what to do."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

_ARRAYS = "save its arrays with numpy.savez as x_test and y_test and give npz:FILE.npz"
_UNPACK = "unpack it and give what it holds"
_KINDS: Sequence[tuple[tuple[bytes, ...], str]] = (
    ((b"version https://git-lfs",), "is a Git LFS pointer in place of the file; git lfs pull fetches that"),
    ((b"<!doctype html", b"<html"), "is a web page in place of the file; download it again"),
    ((b"par1",), "is a Parquet table; hf:FILE.parquet reads it where it holds the pictures, else save it as CSV"),
    ((b"arrow1",), "is an Arrow table; hf:FILE.arrow reads it where it holds the pictures, else save it as CSV"),
    ((b"\x93numpy",), f"is a single NumPy array, without labels; {_ARRAYS}"),
    ((b"\x89hdf\r\n",), f"is an HDF5 file, which is not read; {_ARRAYS}"),
    ((b"matlab 5.0 mat-file",), f"is a MATLAB file, which is not read; {_ARRAYS}"),
    ((b"\xd0\xcf\x11\xe0",), "is an Excel workbook, which is not read; save it as CSV in UTF-8"),
    ((b"sqlite format 3",), "is an SQLite database, which is not read; save the table as CSV in UTF-8"),
    ((b"\x1f\x8b", b"bzh91ay&sy", b"\xfd7zxz", b"\x28\xb5\x2f\xfd"), f"is compressed as a whole; {_UNPACK}"),
    ((b"7z\xbc\xaf", b"rar!"), f"is an archive of a kind that is not read (.zip and .tar are); {_UNPACK}"),
    ((b"pk\x03\x04",), f"is a zip file; give archive:FILE.zip for pictures in class folders, or {_UNPACK}"),
)
_WORKBOOK = (b"[content_types].xml", b"xl/", b"mimetypeapplication/vnd.oasis.opendocument.spreadsheet")
_HEAD = 2048


def other_kind(path: Path) -> str:
    """What a file is, to follow its name in a sentence; "" where its first bytes say nothing.

    Args:
        path: The file.
    """
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD)
    except OSError:
        return ""
    if not head:
        return "is empty; copy or download it again"
    folded = head.lstrip(b"\xef\xbb\xbf \r\n").lower()
    if folded.startswith(b"pk\x03\x04") and any(name in folded for name in _WORKBOOK):
        return "is a workbook of a spreadsheet, which is not read; save it as CSV in UTF-8"
    return next((kind for starts, kind in _KINDS if folded.startswith(starts)), "")
