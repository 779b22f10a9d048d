"""IDX files, gzipped or plain: MNIST and Fashion-MNIST as Debian ships them and as torchvision downloads them.

Format: Yann LeCun's, http://yann.lecun.com/exdb/mnist: two zero bytes, a type code (8 is unsigned byte), the
number of dimensions, each as a big-endian uint32, then the bytes.
"""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from audit.core.errors import DataError
from audit.core.note import Note, note
from audit.core.registry import data_format
from audit.core.resources import resource_dir
from audit.data.arrays import array_split
from audit.data.dataset import Dataset, LoadOptions, Split

DIGIT_NAMES = tuple("0123456789")
GARMENT_NAMES = (
    "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
)  # fmt: skip
_UNSIGNED_BYTE = 8
_LARGEST = 1 << 31


_FASHION_MNIST = "Xiao, Rasul, Vollgraf 2017, arXiv:1708.07747"


@data_format(reference=_FASHION_MNIST)
def sample(_argument: str, _options: LoadOptions) -> Dataset:
    """The Fashion-MNIST subset that ships with the package: 6,000 training and 1,000 test images, 28x28 grey."""
    return _load(
        resource_dir("samples") / "fashion-mnist", ("",), GARMENT_NAMES, note("sample", "Fashion-MNIST sample")
    )


@data_format(argument="DIR", reference=_FASHION_MNIST)
def fashion_mnist(path: str, _options: LoadOptions) -> Dataset:
    """Fashion-MNIST from a folder of its IDX files: 70,000 grey images of 28x28 pixels in 10 classes.

    Args:
        path: The folder of the files, or torchvision's root folder above it.
    """
    return _load(Path(path), ("", "FashionMNIST/raw", "raw"), GARMENT_NAMES, "Fashion-MNIST")


@data_format(argument="DIR", reference="LeCun, Cortes, Burges 1998, http://yann.lecun.com/exdb/mnist")
def mnist(path: str, _options: LoadOptions) -> Dataset:
    """MNIST from a folder of its IDX files: 70,000 grey images of 28x28 pixels in 10 classes.

    Args:
        path: The folder of the files, or torchvision's root folder above it.
    """
    return _load(Path(path), ("", "MNIST/raw", "raw"), DIGIT_NAMES, "MNIST")


def read_idx(path: Path) -> NDArray[np.uint8]:
    """Read one IDX file, gzipped or not.

    Args:
        path: The file.

    Returns:
        The array, uint8, of the shape that the header says.

    Raises:
        DataError: When it is no whole IDX file of unsigned bytes.
    """
    body = _content(path)
    if len(body) < 4 or body[:2] != b"\0\0" or body[2] != _UNSIGNED_BYTE or not 1 <= body[3] <= 4:
        raise DataError(
            f"{path.name} is not an IDX file of unsigned bytes (it begins with {body[:4].hex() or 'nothing'}); "
            "download the data set again."
        )
    header = 4 + 4 * body[3]
    sizes = struct.unpack(f">{body[3]}I", body[4:header]) if len(body) >= header else ()
    if len(sizes) != body[3] or len(body) - header != math.prod(sizes):
        raise DataError(
            f"{path.name} is damaged: its header announces {sizes} values, and {max(0, len(body) - header)} bytes "
            "follow. Download the data set again."
        )
    return np.frombuffer(body, dtype=np.uint8, offset=header).reshape(sizes)


def _load(root: Path, layouts: tuple[str, ...], classes: tuple[str, ...], name: Note | str) -> Dataset:
    base = _base(root, layouts, name)
    test = _split(base, "t10k", "test", classes)
    train = _split(base, "train", "train", classes) if _existing(base, "train-images-idx3-ubyte") else None
    shape = test.fetch(np.zeros(1, np.int64)).shape[1:]
    no_training = note(
        "data_no_training", "{name}: no training images in the folder; only the test split is used.", name=name
    )
    return Dataset(
        name, classes, (int(shape[0]), int(shape[1]), int(shape[2])), test, train, () if train else (no_training,)
    )


def _base(root: Path, layouts: tuple[str, ...], name: Note | str) -> Path:
    if not root.is_dir():
        raise DataError(f"No folder {str(root)!r} for {name}; give the one that holds t10k-images-idx3-ubyte.gz.")
    for layout in layouts:
        if _existing(root / layout, "t10k-images-idx3-ubyte"):
            return root / layout
    raise DataError(
        f"{str(root)!r} holds no {name}: t10k-images-idx3-ubyte(.gz) was expected there or in "
        f"{layouts[-2] if len(layouts) > 1 else 'it'}. Install Debian's dataset-fashion-mnist or download "
        "with torchvision."
    )


def _split(base: Path, prefix: str, split: str, classes: tuple[str, ...]) -> Split:
    images = read_idx(_need(base, f"{prefix}-images-idx3-ubyte"))
    labels = read_idx(_need(base, f"{prefix}-labels-idx1-ubyte"))
    return array_split(images, labels, name=split, classes=len(classes), source=f"{prefix}-images-idx3-ubyte")


def _need(base: Path, stem: str) -> Path:
    path = _existing(base, stem)
    if path is None:
        raise DataError(f"{stem}(.gz) is missing in {str(base)!r}; images and labels come in pairs. Copy both files.")
    return path


def _existing(base: Path, stem: str) -> Path | None:
    # Older mirrors write a dot where the format's own name has a dash.
    names = [stem, stem.replace("-idx", ".idx")]
    candidates = [base / (name + ending) for name in names for ending in ("", ".gz")]
    return next((path for path in candidates if path.is_file()), None)


def _content(path: Path) -> bytes:
    try:
        with path.open("rb") as raw:
            if raw.read(2) != b"\x1f\x8b":
                return path.read_bytes()
        with gzip.open(path) as packed:
            body = packed.read(_LARGEST)
    except (OSError, EOFError, zlib.error) as fault:
        raise DataError(f"{path.name} cannot be read ({fault}); copy or download it again.") from fault
    if len(body) == _LARGEST:
        raise DataError(f"{path.name} unpacks to over 2 GB, more than any data set of this format; it is not read.")
    return body
