"""Text files in the encodings that name themselves."""

from __future__ import annotations

from pathlib import Path


def read_plain_text(path: Path) -> str:
    """The text of a file in UTF-8, or in UTF-16 as Excel and PowerShell write it.

    Args:
        path: The file.

    Raises:
        OSError: It cannot be read.
        UnicodeDecodeError: It is neither.
    """
    body = path.read_bytes()
    return body.decode("utf-16" if body.startswith((b"\xff\xfe", b"\xfe\xff")) else "utf-8-sig")
