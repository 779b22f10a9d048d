"""One audit alone and two at once, with each way of waiting: `python tests/benchmarks/two_audits.py --rounds 3`.

For a machine that does nothing else. Each round runs, in turn, every setting alone and twice at once, each audit in an
empty folder of its own. The fair share of two at once is twice the seconds of one alone as the command starts by
itself. `--spins` names further values of GOMP_SPINCOUNT to set beside the command's own; 300000 is GNU OpenMP's own.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[2]


def started(folder: Path, words: list[str], spins: str | None) -> subprocess.Popen[bytes]:
    """An audit of the sample with an empty store."""
    plain = {k: v for k, v in os.environ.items() if k not in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY", "OMP_NUM_THREADS")}
    environment = {**plain, "PYTHONPATH": str(ROOT), "XDG_CACHE_HOME": str(folder / "cache")}
    if spins is not None:
        environment["GOMP_SPINCOUNT"] = spins
    command = [sys.executable, "-m", "audit", "run", "--out", str(folder / "out"), "--quiet", *words]
    return subprocess.Popen(command, cwd=folder, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def seconds(count: int, words: list[str], spins: str | None) -> float:
    """The mean seconds of so many audits at once."""
    with tempfile.TemporaryDirectory() as name:
        folders = [Path(name) / str(i) for i in range(count)]
        for folder in folders:
            folder.mkdir()
        begun = time.perf_counter()
        running = {i: started(folder, words, spins) for i, folder in enumerate(folders)}
        ended: dict[int, float] = {}
        while len(ended) < count:
            for i, process in running.items():
                if i not in ended and process.poll() is not None:
                    if process.returncode not in (0, 1):
                        raise SystemExit(f"An audit ended with {process.returncode}.")
                    ended[i] = time.perf_counter() - begun
            time.sleep(0.05)
        return statistics.mean(ended.values())


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--spins", nargs="*", default=["300000"], help="values of GOMP_SPINCOUNT beside the command's")
    parser.add_argument("words", nargs="*", help="further words for `audit run`, after --")
    given = parser.parse_args()
    settings: list[str | None] = [None, *given.spins]
    taken: dict[tuple[str | None, int], list[float]] = {}
    for _ in range(given.rounds):
        for setting in settings:
            for count in (1, 2):
                taken.setdefault((setting, count), []).append(seconds(count, given.words, setting))
    fair = 2 * statistics.median(taken[None, 1])
    before = statistics.median(taken["300000", 1]) if "300000" in settings else None
    print(f"{'GOMP_SPINCOUNT':>16} {'alone, s':>9} {'of 300000':>10} {'two at once, s each':>20} {'of fair share':>14}")
    for setting in settings:
        alone, both = (statistics.median(taken[setting, count]) for count in (1, 2))
        beside = f"{alone / before:.2f}" if before else "-"
        print(f"{setting or 'as started':>16} {alone:9.1f} {beside:>10} {both:20.1f} {both / fair:14.2f}")
