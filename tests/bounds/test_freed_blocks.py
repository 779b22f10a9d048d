"""Bounds in a process that set nothing about its memory do not fetch the pages of every step anew."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

_FAULTS = """
import resource, torch
from audit.bounds.sweeps import keep_freed_blocks
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(16):
        blocks = [torch.ones(size << 18) for size in (6, 9, 12, 15)]
        del blocks
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
faults()
left_alone = faults()
keep_freed_blocks()
print(left_alone, faults())
"""


def test_blocks_of_a_step_are_used_again_by_the_next() -> None:
    plain = {k: v for k, v in os.environ.items() if not k.startswith("MALLOC_") and k != "GLIBC_TUNABLES"}
    ran = subprocess.run([sys.executable, "-c", _FAULTS], capture_output=True, text=True, env=plain, check=True)
    left_alone, kept = map(int, ran.stdout.split())
    if left_alone < 16 * 1000:
        pytest.skip("pages are huge here, or the C library keeps large blocks by itself")
    assert kept < left_alone / 3
