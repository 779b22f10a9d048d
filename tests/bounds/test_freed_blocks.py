"""Bounds in a process that set nothing about its memory do not fetch the pages of every step anew."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

_FAULTS = """
import resource, sys, torch
from audit.bounds.sweeps import keep_freed_blocks
if sys.argv[1] == "keep":
    keep_freed_blocks()
def step():
    blocks = [torch.ones(size << 18) for size in (6, 9, 12, 15)]
step()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(16):
    step()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def _faults(how: str) -> int:
    plain = {k: v for k, v in os.environ.items() if not k.startswith("MALLOC_") and k != "GLIBC_TUNABLES"}
    ran = subprocess.run([sys.executable, "-c", _FAULTS, how], capture_output=True, text=True, env=plain, check=True)
    return int(ran.stdout)


def test_blocks_of_a_step_are_used_again_by_the_next() -> None:
    left_alone = _faults("leave")
    if left_alone < 8 * 1000:
        pytest.skip("pages are huge here, or the C library keeps large blocks by itself")
    assert _faults("keep") < left_alone / 3
