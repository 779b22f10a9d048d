"""What the process of a command sets before it begins."""

from __future__ import annotations

import gc
import math
import os
from pathlib import Path

_MMAP_THRESHOLD = -3
_TRIM_THRESHOLD = -1
"""The parameters' numbers in glibc's malloc.h."""
_LARGEST_REUSED = 1 << 30
"""Bytes. A single block above this is rare, and goes back to the system when it is freed."""
_SPINS = 2_000
"""How often a waiting thread of GNU's OpenMP looks before it sleeps, for a tenth of a millisecond; its own 300,000 are
150 times that. On two cores a gradient of 16 images took 2.1 ms alone and 5.9 ms with another such process beside it
(20,000: 2.2 and 24 ms; 300,000: 2.0 and 164 ms; 1,000: 3.1 and 4.7 ms)."""
_BLOCK_MS = 1
"""The same of LLVM's and Intel's OpenMP, in milliseconds; their own is 200."""
_NEW_OBJECTS = 50_000
"""So many objects more than before are made until Python looks for cycles among them; its own number is 700."""


def prepare_process() -> None:
    """Set what the libraries of a command read when they are loaded. To be called before torch is imported."""
    relax_collector()
    tune_malloc()
    limit_spinning()
    limit_blas()
    limit_threads()


def relax_collector() -> None:
    """Let Python look for cycles of dead objects less often: imports make hundreds of thousands that stay alive.

    A quarter of the time until `audit run` has read its data went into searching them, again and again (2.1 s of 2.8
    are left). What is in no cycle, as tensors are, is freed at once as ever.
    """
    gc.set_threshold(_NEW_OBJECTS, *gc.get_threshold()[1:])


def tune_malloc() -> bool:
    """Let malloc reuse large freed blocks, so that a forward pass does not fetch its pages anew.

    Left alone, glibc gives every block above 32 MB back at once, and the kernel clears its pages again for the next
    layer: at 224x224 in batches of 64 that was 60% of a forward's time. Settings of the environment
    (MALLOC_..., GLIBC_TUNABLES) win. For the command line's process, never for one that imports the package.

    Returns:
        Whether this C library could, and nothing in the environment forbade it.
    """
    import ctypes

    if any(name.startswith("MALLOC_") or name == "GLIBC_TUNABLES" for name in os.environ):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # macOS, Windows and musl have none
        return False
    return bool(mallopt(_MMAP_THRESHOLD, _LARGEST_REUSED)) and bool(mallopt(_TRIM_THRESHOLD, 2**31 - 1))


def limit_spinning() -> bool:
    """Let threads that wait for work sleep soon, so that another process gets their cores.

    Left alone, OpenMP's threads spin for many milliseconds between two layers: two audits on the cores of one took
    three times their fair share. Settings of the environment (GOMP_SPINCOUNT, KMP_BLOCKTIME, OMP_WAIT_POLICY) win.

    Returns:
        Whether nothing in the environment said it already.
    """
    if any(name in os.environ for name in ("GOMP_SPINCOUNT", "KMP_BLOCKTIME", "OMP_WAIT_POLICY")):
        return False
    os.environ |= {"GOMP_SPINCOUNT": str(_SPINS), "KMP_BLOCKTIME": str(_BLOCK_MS)}
    return True


def limit_blas() -> bool:
    """Let numpy's and scipy's linear algebra use one thread; torch's own is not theirs.

    OpenBLAS divides products however small among its threads, which wait for each other by spinning: on two cores
    L-BFGS over 2,000 numbers took 0.40 s with two threads and 0.05 s with one, and the default audit 36.9 and 24.1 s.
    OPENBLAS_NUM_THREADS of the environment wins.

    Returns:
        Whether nothing in the environment said it already.
    """
    if "OPENBLAS_NUM_THREADS" in os.environ:
        return False
    os.environ["OPENBLAS_NUM_THREADS"] = "1"
    return True


def limit_threads(root: Path = Path("/")) -> int | None:
    """Use no more threads than a container may use processors.

    OpenMP counts the processors that the process may run on, and knows nothing of a share of their time, such as
    `docker run --cpus 2` on 64 of them gives. OMP_NUM_THREADS of the environment wins.

    Args:
        root: The root of the file system.

    Returns:
        The number of threads that was set, None where nothing limits them further.
    """
    if "OMP_NUM_THREADS" in os.environ:
        return None
    share = _processor_share(root)
    if share is None or math.ceil(share) >= _processors():
        return None
    os.environ["OMP_NUM_THREADS"] = str(max(1, math.ceil(share)))
    return max(1, math.ceil(share))


def _processors() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _processor_share(root: Path) -> float | None:
    """How many processors' time the control groups of this process may use, None where they set no limit."""
    shares = []
    for folder in _control_groups(root):
        try:
            if (folder / "cpu.max").exists():
                quota, period = (folder / "cpu.max").read_text().split()
            else:
                quota, period = ((folder / f"cpu.cfs_{name}_us").read_text().strip() for name in ("quota", "period"))
            if quota not in ("max", "-1"):
                shares.append(int(quota) / int(period))
        except (OSError, ValueError, ZeroDivisionError):
            continue
    return min(shares, default=None)


def _control_groups(root: Path) -> list[Path]:
    """The folders of this process's control groups and of those around them, of both versions."""
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return []
    folders = []
    for line in lines:
        _, controllers, inside = line.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        for name in ("cpu", "cpu,cpuacct") if controllers else ("", "unified"):
            top = root / "sys/fs/cgroup" / name
            own = top / inside.lstrip("/")
            folders += [folder for folder in (own, *own.parents) if folder.is_relative_to(top)]
    return folders
