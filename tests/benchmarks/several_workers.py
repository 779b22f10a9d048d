"""One worker and two of one thread each: `python tests/benchmarks/several_workers.py --rounds 3 -- --preset standard`.

For a machine that does nothing else. Each round runs the same audit in an empty folder, in turn in one process, on two
processes (`--jobs 2`) and, with --ray, on two workers of Ray on this machine; what follows `--` are flags of the run.
Printed are seconds of the whole command, how many times as fast as one worker, and whether `audit.json` has the same
bytes. A model is trained once, so that what is compared is the audit of a given one.
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
WAYS = {"one process": [], "--jobs 2": ["--jobs", "2"], "--engine ray --jobs 2": ["--engine", "ray", "--jobs", "2"]}


def audit(folder: Path, *words: str) -> float:
    """The seconds of a command of audit, each process with one thread."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "AUDIT_CACHE_DIR": f"{folder}/cache"}
    begun = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", "audit", *words, "--quiet"], cwd=folder, env=environment, capture_output=True, text=True
    )
    if done.returncode not in (0, 1):
        raise SystemExit(f"audit {' '.join(words)} ended with {done.returncode}: {done.stderr.strip()[-400:]}")
    return time.perf_counter() - begun


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--ray", action="store_true", help="on Ray too")
    parser.add_argument("--model", type=Path, help="weights of a cnn-28; trained on the sample by default")
    parser.add_argument("words", nargs="*", help="flags of `audit run`, after --")
    given = parser.parse_args()
    ways = {name: words for name, words in WAYS.items() if given.ray or "ray" not in name}
    taken: dict[str, list[float]] = {name: [] for name in ways}
    with tempfile.TemporaryDirectory() as name:
        folder, documents = Path(name), set()
        if given.model is None:
            audit(folder, "train", "--out", "trained")
        weights = given.model.resolve() if given.model else folder / "trained" / "models" / "standard.safetensors"
        common = ["--model", str(weights), "--architecture", "cnn-28", "--set", "hardening.enabled=false", *given.words]
        for number in range(given.rounds):
            for way, words in ways.items():
                out = f"{number}-{list(ways).index(way)}"
                taken[way].append(audit(folder, "run", "--out", out, *common, *words))
                documents.add((folder / out / "audit.json").read_bytes())
    alone = statistics.median(taken["one process"])
    print("| | seconds | times as fast |\n|---|---|---|")
    for way, seconds in taken.items():
        print(f"| {way} | {statistics.median(seconds):.1f} | {alone / statistics.median(seconds):.2f} |")
    print(f"audit.json: {'the same bytes in all' if len(documents) == 1 else f'{len(documents)} different ones'}")
