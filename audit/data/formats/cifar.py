"""CIFAR-10 as torchvision unpacks it (pickles, read without running them) and in its binary form."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from audit.core.errors import DataError
from audit.core.note import note
from audit.core.registry import data_format
from audit.data.arrays import array_split
from audit.data.dataset import Dataset, LoadOptions, Split
from audit.data.safe_pickle import read_number_pickle

CIFAR10_CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
_SIDE = 32
_RECORD = 1 + 3 * _SIDE * _SIDE

Part = tuple[NDArray[np.uint8], NDArray[np.int64]]


@data_format(argument="DIR", reference='Krizhevsky 2009, "Learning multiple layers of features from tiny images"')
def cifar10(path: str, _options: LoadOptions) -> Dataset:
    """CIFAR-10 from a folder: 60,000 colour images of 32x32 pixels in 10 classes.

    Args:
        path: A folder that holds cifar-10-batches-py or cifar-10-batches-bin, or is one of them.

    Raises:
        DataError: When the files are missing, damaged or not CIFAR-10.
    """
    root = Path(path)
    if not root.is_dir():
        raise DataError(f"No folder {path!r} for CIFAR-10; give the one that holds cifar-10-batches-py.")
    base, binary = _base(root)
    ending = ".bin" if binary else ""
    read = _read_binary if binary else _read_pickle
    test = _split([read(base / f"test_batch{ending}")], "test")
    names = [base / f"data_batch_{i}{ending}" for i in range(1, 6)]
    present = [path for path in names if path.is_file()]
    train = _split([read(path) for path in present], "train") if present else None
    some = note("data_cifar", "CIFAR-10: {present} of 5 training files are there.", present=len(present))
    notes = () if len(present) == 5 else (some,)
    return Dataset("CIFAR-10", CIFAR10_CLASSES, (3, _SIDE, _SIDE), test, train, notes)


def _base(root: Path) -> tuple[Path, bool]:
    for folder in (root, root / "cifar-10-batches-py", root / "cifar-10-batches-bin"):
        for ending in ("", ".bin"):
            if (folder / f"test_batch{ending}").is_file():
                return folder, bool(ending)
    raise DataError(
        f"{str(root)!r} holds no CIFAR-10: cifar-10-batches-py/test_batch or cifar-10-batches-bin/test_batch.bin was "
        "expected. Unpack the downloaded archive there."
    )


def _split(batches: list[Part], name: str) -> Split:
    images = np.concatenate([images for images, _ in batches]).reshape(-1, 3, _SIDE, _SIDE)
    labels = np.concatenate([labels for _, labels in batches])
    return array_split(images, labels, name=name, classes=len(CIFAR10_CLASSES), source=f"CIFAR-10 ({name})")


def _read_binary(path: Path) -> Part:
    body = np.frombuffer(_content(path), dtype=np.uint8)
    if not body.size or body.size % _RECORD:
        raise DataError(f"{path.name} has {body.size} bytes, no multiple of {_RECORD}; download CIFAR-10 again.")
    records = body.reshape(-1, _RECORD)
    return records[:, 1:], records[:, 0].astype(np.int64)


def _read_pickle(path: Path) -> Part:
    batch = read_number_pickle(_content(path), path.name)
    data, labels = batch.get("data"), batch.get("labels")
    if not isinstance(data, np.ndarray) or data.dtype != np.uint8 or data.shape[1:] != (_RECORD - 1,):
        raise DataError(f"{path.name} holds no `data` of {_RECORD - 1} bytes an image; download CIFAR-10 again.")
    if not isinstance(labels, list) or not all(type(label) is int and abs(label) < 1 << 31 for label in labels):
        raise DataError(f"{path.name} holds no list of whole-number `labels`; download CIFAR-10 again.")
    return data, np.array(labels, dtype=np.int64)


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as fault:
        raise DataError(f"{path.name} cannot be read ({fault.strerror}); check the folder.") from fault
