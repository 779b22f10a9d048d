"""What the process of a command sets before it begins."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from audit.core import startup

_FAULTS = """
import resource, sys
from audit.core.startup import tune_malloc
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
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MALLOC_ARENA_MAX", "2")
        assert startup.tune_malloc() is False


_SEEN = """
import os
from audit.core import startup
startup.prepare_process()
import sys
assert "torch" not in sys.modules
import torch
names = ("GOMP_SPINCOUNT", "KMP_BLOCKTIME", "OMP_WAIT_POLICY", "OMP_NUM_THREADS")
print([os.environ.get(name) for name in names], torch.get_num_threads())
"""
_OURS = ("GOMP_SPINCOUNT", "KMP_BLOCKTIME", "OMP_WAIT_POLICY")


def _displayed(program: str, **settings: str) -> str:
    """What a child process and its OpenMP say of their settings."""
    plain = {k: v for k, v in os.environ.items() if k not in (*_OURS, "OMP_NUM_THREADS")}
    environment = {**plain, "OMP_DISPLAY_ENV": "VERBOSE", **settings}
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=environment, check=True)
    return ran.stdout + ran.stderr


def test_the_openmp_that_torch_loads_waits_as_the_command_said() -> None:
    shown = _displayed(_SEEN)
    assert "['2000', '1', None" in shown
    if "GOMP_SPINCOUNT =" in shown:  # GNU's says what it read
        assert "GOMP_SPINCOUNT = '2000'" in shown


@pytest.mark.parametrize(
    "setting",
    [{"GOMP_SPINCOUNT": "5"}, {"OMP_WAIT_POLICY": "passive"}, {"KMP_BLOCKTIME": "3"}],
    ids=lambda s: next(iter(s)),
)
def test_the_users_own_way_of_waiting_wins(setting: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    for name in _OURS:
        monkeypatch.delenv(name, raising=False)
    for name, value in setting.items():
        monkeypatch.setenv(name, value)
    assert startup.limit_spinning() is False
    assert {name: os.environ[name] for name in _OURS if name in os.environ} == setting


def _groups(root: Path, **files: str) -> Path:
    (root / "proc/self").mkdir(parents=True)
    for name, text in files.items():
        path = root / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


CONTAINERS: dict[str, tuple[dict[str, str], int | None]] = {
    "a share": ({"sys/fs/cgroup/cpu.max": "200000 100000", "proc/self/cgroup": "0::/\n"}, 2),
    "part of a processor": ({"sys/fs/cgroup/cpu.max": "50000 100000", "proc/self/cgroup": "0::/\n"}, 1),
    "a share and a half": ({"sys/fs/cgroup/cpu.max": "150000 100000", "proc/self/cgroup": "0::/\n"}, 2),
    "no limit": ({"sys/fs/cgroup/cpu.max": "max 100000", "proc/self/cgroup": "0::/\n"}, None),
    "more than there are": ({"sys/fs/cgroup/cpu.max": "9900000 100000", "proc/self/cgroup": "0::/\n"}, None),
    "of the group around it": (
        {
            "sys/fs/cgroup/pod/cpu.max": "300000 100000",
            "sys/fs/cgroup/pod/box/cpu.max": "max 100000",
            "proc/self/cgroup": "0::/pod/box\n",
        },
        3,
    ),
    "version 1": (
        {
            "sys/fs/cgroup/cpu/box/cpu.cfs_quota_us": "400000\n",
            "sys/fs/cgroup/cpu/box/cpu.cfs_period_us": "100000\n",
            "proc/self/cgroup": "5:memory:/box\n4:cpu,cpuacct:/box\n",
        },
        4,
    ),
    "version 1 without a limit": (
        {
            "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1\n",
            "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
            "proc/self/cgroup": "4:cpu:/\n",
        },
        None,
    ),
    "nonsense": ({"sys/fs/cgroup/cpu.max": "nothing", "proc/self/cgroup": "0::/\n"}, None),
    "no control groups": ({}, None),
}


@pytest.mark.parametrize("name", CONTAINERS)
def test_a_container_gets_no_more_threads_than_its_share(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files, threads = CONTAINERS[name]
    monkeypatch.setattr(startup, "_processors", lambda: 8)
    monkeypatch.delenv("OMP_NUM_THREADS")
    assert startup.limit_threads(_groups(tmp_path, **files)) == threads
    assert os.environ.get("OMP_NUM_THREADS") == (None if threads is None else str(threads))
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    assert startup.limit_threads(tmp_path) is None and os.environ["OMP_NUM_THREADS"] == "7"


def test_linear_algebra_of_numpy_uses_one_thread_unless_the_environment_says_otherwise(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(startup.os, "environ", {})
    assert startup.limit_blas() and startup.os.environ["OPENBLAS_NUM_THREADS"] == "1"
    startup.os.environ["OPENBLAS_NUM_THREADS"] = "3"
    assert not startup.limit_blas() and startup.os.environ["OPENBLAS_NUM_THREADS"] == "3"


def test_cycles_are_searched_seldom() -> None:
    program = "import gc; from audit.core import startup; startup.prepare_process(); print(gc.get_threshold())"
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert ran.stdout.startswith("(50000, ")
