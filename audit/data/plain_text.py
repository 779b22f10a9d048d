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
    return plain_text_of(path.read_bytes())


def plain_text_of(body: bytes) -> str:
    """The text of bytes in UTF-8 or UTF-16.

    Args:
        body: The bytes of a file.

    Raises:
        UnicodeDecodeError: They are neither.
    """
    return body.decode("utf-16" if body.startswith((b"\xff\xfe", b"\xfe\xff")) else "utf-8-sig")
