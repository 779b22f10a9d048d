"""Cut the sample out of the full Fashion-MNIST: `python subset.py FOLDER-OF-THE-FULL-SET OUTPUT-FOLDER`.

The first 600 training and the first 100 test images of each class, in their original order.
"""

from __future__ import annotations

import gzip
import struct
import sys
from pathlib import Path

import numpy as np

PARTS = {"train": 600, "t10k": 100}


def main(source: Path, target: Path) -> None:
    for part, per_class in PARTS.items():
        labels = read(source / f"{part}-labels-idx1-ubyte.gz", header=8)
        images = read(source / f"{part}-images-idx3-ubyte.gz", header=16).reshape(-1, 28, 28)
        chosen = np.sort(np.concatenate([np.flatnonzero(labels == c)[:per_class] for c in range(10)]))
        write(target / f"{part}-labels-idx1-ubyte.gz", labels[chosen])
        write(target / f"{part}-images-idx3-ubyte.gz", images[chosen])


def read(path: Path, header: int) -> np.ndarray:
    return np.frombuffer(gzip.decompress(path.read_bytes())[header:], dtype=np.uint8)


def write(path: Path, array: np.ndarray) -> None:
    magic = struct.pack(">HBB", 0, 8, array.ndim)
    sizes = struct.pack(f">{array.ndim}I", *array.shape)
    # No name and no time inside: the same images give the same bytes.
    with path.open("wb") as raw, gzip.GzipFile("", "wb", 9, raw, mtime=0) as packed:
        packed.write(magic + sizes + array.tobytes())


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
