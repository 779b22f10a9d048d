"""What the process of a command sets before it begins."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

_FAULTS = """
import resource, sys
from audit.cli.startup import tune_malloc
if sys.argv[1] == "keep" and not tune_malloc():
    sys.exit(77)
def fill():
    return len(bytearray(b"x") * (48 << 20))
fill()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(5):
    fill()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def _faults(how: str, **settings: str) -> int:
    plain = {k: v for k, v in os.environ.items() if not k.startswith("MALLOC_") and k != "GLIBC_TUNABLES"}
    ran = subprocess.run(
        [sys.executable, "-c", _FAULTS, how], capture_output=True, text=True, env={**plain, **settings}, check=False
    )
    if ran.returncode == 77:
        pytest.skip("this C library has no mallopt")
    assert ran.returncode == 0, ran.stderr
    return int(ran.stdout)


def test_large_blocks_that_were_freed_are_used_again_without_fetching_their_pages():
    kept, left_alone = _faults("keep"), _faults("leave")
    if left_alone < 5 * 1000:
        pytest.skip("pages are huge here, or the C library keeps large blocks by itself")
    assert kept < left_alone / 10


def test_settings_of_the_environment_win():
    from audit.cli import startup

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MALLOC_ARENA_MAX", "2")
        assert startup.tune_malloc() is False
