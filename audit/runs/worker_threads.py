"""The CPU threads of a run and of its workers."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from audit.config import RunConfig

CORES_A_WORKER = 4
"""Cores of a worker on a cluster where OMP_NUM_THREADS says nothing: more threads than that speed no small net up."""


@contextmanager
def threads_of_workers(config: RunConfig) -> Iterator[None]:
    """Compute in the block with as many threads as a worker of the run has: the number decides about last bits.

    Workers of one machine share the threads that one process would use. A worker of a cluster has OMP_NUM_THREADS of
    them, or `CORES_A_WORKER` at most.

    Args:
        config: The configuration of the run.
    """
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(threads_of_one(config, before))
    try:
        yield
    finally:
        torch.set_num_threads(before)


def threads_of_one(config: RunConfig, before: int) -> int:
    """How many threads a worker of a run has.

    Args:
        config: The configuration of the run.
        before: How many this process has.
    """
    if config.jobs is not None and config.engine in ("in-process", "ray"):
        return max(1, before // config.jobs)
    if config.engine != "in-process" and "OMP_NUM_THREADS" not in os.environ:
        return min(before, CORES_A_WORKER)
    return before


def threads_of_process() -> int:
    """How many threads this process has; torch is imported only where OMP_NUM_THREADS does not say it."""
    said = os.environ.get("OMP_NUM_THREADS", "")
    if "torch" not in sys.modules and said.isdigit() and int(said):
        return int(said)
    import torch

    return torch.get_num_threads()
