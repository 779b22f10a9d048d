"""Loading measured: `python tests/benchmarks/loading.py throughput` and `... memory 10000`.

throughput: images a second of a folder of JPEGs, resized, beside a plain torchvision DataLoader on the same folder.
memory: peak resident memory of fetching N pictures in batches; run with 10000 and 100000 and compare.
"""

from __future__ import annotations

import resource
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from audit.data.dataset import LoadOptions
from audit.data.formats.folder import folder

SIZE = 128


def make_folder(base: Path, pictures: int, side: tuple[int, int], kind: str) -> None:
    """Two classes of noise upsampled to `side`; many files are links to a few, which cost the reader the same."""
    rng = np.random.default_rng(0)
    for label in ("a", "b"):
        folder = base / "test" / label
        folder.mkdir(parents=True)
        distinct = min(200, pictures // 2)
        for i in range(distinct):
            coarse = Image.fromarray(rng.integers(0, 256, (24, 32, 3)).astype(np.uint8))
            coarse.resize((side[1], side[0]), Image.Resampling.BICUBIC).save(folder / f"{i:06d}.{kind}")
        for i in range(distinct, pictures // 2):
            (folder / f"{i:06d}.{kind}").hardlink_to(folder / f"{i % distinct:06d}.{kind}")


def ours(base: Path) -> Iterator[torch.Tensor]:
    split = folder(str(base), LoadOptions(image_size=SIZE)).test
    yield torch.empty(0)  # the survey is not part of the throughput
    for start in range(0, len(split), 128):
        yield split.batch(slice(start, start + 128)).images


def theirs(base: Path, workers: int) -> Iterator[torch.Tensor]:
    from torch.utils.data import DataLoader
    from torchvision.datasets import ImageFolder
    from torchvision.transforms import Compose, Resize, ToTensor

    folder = ImageFolder(str(base / "test"), Compose([Resize((SIZE, SIZE)), ToTensor()]))
    yield torch.empty(0)
    for images, _ in DataLoader(folder, batch_size=128, num_workers=workers):
        yield images


def images_a_second(make: Callable[[], Iterator[torch.Tensor]]) -> float:
    stream = make()
    next(stream)
    begun = time.perf_counter()
    count = sum(len(images) for images in stream)
    return count / (time.perf_counter() - begun)


def throughput() -> None:
    with tempfile.TemporaryDirectory() as name:
        base = Path(name)
        make_folder(base, 2000, (375, 500), "jpg")
        rows: dict[str, list[float]] = {"ours": [], "DataLoader, 0 workers": [], "DataLoader, 2 workers": []}
        for _ in range(3):
            rows["ours"].append(images_a_second(lambda: ours(base)))
            rows["DataLoader, 0 workers"].append(images_a_second(lambda: theirs(base, 0)))
            rows["DataLoader, 2 workers"].append(images_a_second(lambda: theirs(base, 2)))
        for label, rates in rows.items():
            print(f"{label:24} best of 3: {max(rates):7.0f} images/s")


def memory(pictures: int) -> None:
    with tempfile.TemporaryDirectory() as name:
        base = Path(name)
        make_folder(base, pictures, (32, 32), "png")
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        split = folder(str(base), LoadOptions()).test
        for start in range(0, len(split), 128):
            split.batch(slice(start, start + 128))
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        print(f"{pictures} pictures: peak {peak / 1024:.0f} MB ({(peak - before) / 1024:.0f} MB above the start)")


if __name__ == "__main__":
    torch.set_num_threads(1)
    if sys.argv[1:2] == ["memory"]:
        memory(int(sys.argv[2]))
    else:
        throughput()
