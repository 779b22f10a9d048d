"""Files of verification instances, which gzip may have packed."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from audit.core.errors import AuditError


@contextmanager
def reading(path: Path, error: type[AuditError]) -> Iterator[None]:
    """Turn what the block meets in reading a file into a sentence.

    Args:
        path: The file.
        error: Raised where it cannot be read or is damaged.
    """
    try:
        yield
    except (EOFError, zlib.error, gzip.BadGzipFile) as fault:
        raise error(f"{path} is a damaged gzip file: {fault}; fetch it again.") from fault
    except OSError as fault:
        raise error(
            f"{path} cannot be read: {fault.strerror or fault}; name a file that is there and that you may read."
        ) from fault


def is_packed(begin: bytes) -> bool:
    """Whether a file is gzip's.

    Args:
        begin: Its first bytes, two at least.
    """
    return begin[:2] == b"\x1f\x8b"
