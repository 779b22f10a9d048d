"""What the process of a command sets before it begins."""

from __future__ import annotations

_MMAP_THRESHOLD = -3
_TRIM_THRESHOLD = -1
"""The parameters' numbers in glibc's malloc.h."""
_LARGEST_REUSED = 1 << 30
"""Bytes. A single block above this is rare, and goes back to the system when it is freed."""


def tune_malloc() -> bool:
    """Let malloc reuse large freed blocks, so that a forward pass does not fetch its pages anew.

    Left alone, glibc gives every block above 32 MB back at once, and the kernel clears its pages again for the next
    layer: at 224x224 in batches of 64 that was 60% of a forward's time. Settings of the environment
    (MALLOC_..., GLIBC_TUNABLES) win. For the command line's process, never for one that imports the package.

    Returns:
        Whether this C library could, and nothing in the environment forbade it.
    """
    import ctypes
    import os

    if any(name.startswith("MALLOC_") or name == "GLIBC_TUNABLES" for name in os.environ):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # macOS, Windows and musl have none
        return False
    return bool(mallopt(_MMAP_THRESHOLD, _LARGEST_REUSED)) and bool(mallopt(_TRIM_THRESHOLD, 2**31 - 1))
