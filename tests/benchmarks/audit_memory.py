"""Peak memory of a whole audit: `python tests/benchmarks/audit_memory.py 10000 100000`.

A process of its own audits N generated pictures (16x16 PNG, many of them links to a few) with a small loaded net; its
peak resident memory should not grow with N.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from safetensors.torch import save_file

sys.path.insert(0, str(Path(__file__).parents[2]))

from audit.models.architecture import build
from tests.benchmarks.loading import make_folder

SIDE = 16
SETTINGS = (
    "robustness.examples=32",
    "corruptions.examples=32",
    "corruptions.names=['fog']",
    "explanations.examples=4",
    "explanations.methods=['saliency']",
)
MEASURED = """
import resource, sys
from audit.cli import main
try:
    main()
finally:
    print(f"PEAK {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss}", file=sys.stderr)
"""


def peak_megabytes(pictures: int) -> tuple[float, float]:
    """Peak resident memory in MB, and seconds, of the audit of so many pictures."""
    with tempfile.TemporaryDirectory() as name:
        base = Path(name)
        make_folder(base / "photos", pictures, (SIDE, SIDE), "png")
        net = build("cnn-28", classes=2, input_shape=(3, SIDE, SIDE), seed=0)
        save_file(net.state_dict(), base / "net.safetensors")
        words = ["run", "--data", f"folder:{base / 'photos'}", "--model", str(base / "net.safetensors")]
        words += ["--architecture", "cnn-28", "--no-harden", "--quiet", "--device", "cpu", "--out", str(base / "out")]
        words += [word for setting in SETTINGS for word in ("--set", setting)]
        begun = time.perf_counter()
        ended = subprocess.run(
            [sys.executable, "-c", MEASURED, *words],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
        )
        if ended.returncode:
            raise SystemExit(f"The audit ended with {ended.returncode}: {ended.stderr}")
        return int(ended.stderr.split("PEAK ")[1]) / 1024, time.perf_counter() - begun


if __name__ == "__main__":
    first = None
    for given in sys.argv[1:] or ("10000", "100000"):
        peak, seconds = peak_megabytes(int(given))
        first = first or peak
        print(
            f"{int(given):8,} pictures: peak {peak:6.0f} MB, {peak / first:.3f} x the first; {seconds:.0f} s",
            flush=True,
        )
