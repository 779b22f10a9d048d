"""What data health costs on photographs in files: `python tests/benchmarks/photographs.py SEEDS DIR 10000 100000`.

SEEDS is a folder of a hundred photographs of at least 200 pixels, DIR an empty folder that may grow by 1.5 GB and is
left to whoever gave it. Each picture is a crop of one photograph laid over a crop of another under a smooth mask, 200
pixels a side, JPEG; its class is the number of the first. One in 200 test pictures is a copy of a training picture:
mirrored and compressed anew. Each count is surveyed by a process of its own.
"""

from __future__ import annotations

import io
import os
import resource
import subprocess
import sys
import time
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[1] / "topics"))

from bare_context import bare_context

from audit.core.cell import Cell
from audit.data.load import load_dataset
from audit.topics.data_health.facts import HealthFacts
from audit.topics.data_health.study import data_health

SIDE = 200
TESTED = 5
"""Every so manyth picture is a test picture."""
COPIED = 200
"""Every so manyth picture, which is a test picture, copies the training picture before it."""


def copied(number: int) -> bool:
    return number > 0 and number % COPIED == 0


def jpeg(pixels: NDArray[np.uint8], quality: int) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()


def crop(photograph: Image.Image, draw: np.random.Generator) -> NDArray[np.float32]:
    side = draw.uniform(0.4, 1) * min(photograph.size)
    left, top = draw.uniform(0, photograph.width - side), draw.uniform(0, photograph.height - side)
    part = photograph.resize((SIDE, SIDE), Image.Resampling.BILINEAR, (left, top, left + side, top + side))
    pixels = np.asarray(part, np.float32)
    return pixels[:, ::-1] if draw.random() < 0.5 else pixels


def masks(draw: np.random.Generator) -> NDArray[np.float32]:
    """Smooth weights of the first photograph, float32 (64, side, side, 1)."""
    coarse = [Image.fromarray(draw.normal(0.6, 0.6, (4, 4)).astype(np.float32)) for _ in range(64)]
    fine = [np.asarray(part.resize((SIDE, SIDE), Image.Resampling.BICUBIC), np.float32) for part in coarse]
    return np.asarray(np.clip(np.stack(fine), 0, 1)[..., None], np.float32)


def write_pictures(seeds: Path, folder: Path, count: int) -> None:
    photographs = [Image.open(path).convert("RGB") for path in islice(sorted(seeds.glob("*.jpg")), 100)]
    weights = masks(np.random.default_rng(0))
    before, before_label = np.zeros((SIDE, SIDE, 3), np.uint8), 0
    for part in ("train", "test"):
        for label in range(len(photographs)):
            (folder / part / f"{label:03d}").mkdir(parents=True)
    for number in range(count):
        draw = np.random.default_rng([1, number])
        first, second = draw.integers(0, len(photographs), 2).tolist()
        tested = number % TESTED == 0
        if copied(number):
            picture, first, quality = np.ascontiguousarray(before[:, ::-1]), before_label, 70
        else:
            weight, quality = weights[draw.integers(64)], 90
            mixed = weight * crop(photographs[first], draw) + (1 - weight) * crop(photographs[second], draw)
            picture = np.clip(mixed * draw.uniform(0.7, 1.2), 0, 255).astype(np.uint8)
        before, before_label = picture, first
        path = folder / ("test" if tested else "train") / f"{first:03d}" / f"{number:07d}.jpg"
        path.write_bytes(jpeg(picture, quality))


def first_pictures(whole: Path, folder: Path, count: int) -> Path:
    """The first pictures of a folder as hard links in another."""
    for path in whole.rglob("*.jpg"):
        if int(path.stem) < count:
            goal = folder / path.relative_to(whole)
            goal.parent.mkdir(parents=True, exist_ok=True)
            os.link(path, goal)
    return folder


def measure(folder: Path) -> None:
    """Survey the pictures of a folder, and print what each part took and whether the copies were named."""
    before = 0.0

    def said(part: str) -> None:
        nonlocal before
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(f"  {part:9} {time.process_time() - before:7.1f} s, peak {peak:6.0f} MB", flush=True)
        before = time.process_time()

    said("imports")
    data = load_dataset(f"folder:{folder}")
    assert data.train is not None
    said("survey")
    parts = ["copies", "signatures"]

    def progress(done: int, total: int) -> None:
        if parts and 3 * done >= total * (3 - len(parts)):
            said(parts.pop())

    no_model: Any = None
    cell = Cell("data-health", "survey", settings={"labelled": True, "pictures": True}, model="standard", seed=0)
    context = replace(bare_context(no_model, data.test.batch(slice(0, 0)), cell), dataset=data, progress=progress)
    issues = data_health(context, cell).facts_as(HealthFacts).issues
    said("the rest")
    leaks = {int(Path(issue.image).stem): int(Path(issue.partner).stem) for issue in issues if issue.issue == "leak"}
    planted = [number for number in (int(Path(name).stem) for name in data.test.ids) if copied(number)]
    right = sum(leaks.get(number) == number - 1 for number in planted)
    print(f"  {right} of {len(planted)} copies named, {len(issues)} issues", flush=True)


if __name__ == "__main__":
    if sys.argv[1] == "--measure":
        measure(Path(sys.argv[2]))
        raise SystemExit
    counts = [int(word) for word in sys.argv[3:]] or [10_000, 100_000]
    base = Path(sys.argv[2])
    if not (base / "all").exists():
        begun = time.process_time()
        write_pictures(Path(sys.argv[1]), base / "all", max(counts))
        print(f"{max(counts)} pictures written in {time.process_time() - begun:.0f} s", flush=True)
    for count in counts:
        folder = base / f"first-{count}"
        if not folder.exists():
            first_pictures(base / "all", folder, count)
        print(f"{count} pictures", flush=True)
        subprocess.run(
            [sys.executable, __file__, "--measure", str(folder)], check=True, env=os.environ | {"OMP_NUM_THREADS": "1"}
        )
