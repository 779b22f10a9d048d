"""NumPy archives: `x_train, y_train, x_test, y_test` as Keras ships them, or `images, labels`."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from audit.core.errors import DataError
from audit.core.registry import data_format
from audit.data.arrays import array_range, array_split, number_names
from audit.data.dataset import Dataset, LoadOptions

LARGEST_ARCHIVE = 16 << 30
"""Bytes an archive may unpack to: these arrays live in memory; a larger set belongs in a folder."""

_TEST = (("x_test", "y_test"), ("images", "labels"), ("test_images", "test_labels"))
_TRAIN = (("x_train", "y_train"), ("train_images", "train_labels"))


@data_format(argument="FILE")
def npz(source: str, options: LoadOptions) -> Dataset:
    """A NumPy archive with arrays x_test and y_test, perhaps x_train and y_train, or images and labels.

    An optional array `classes` names the classes in label order.

    Args:
        source: The path of the .npz file.
        options: `pixel_range` is used.

    Raises:
        DataError: When the file is damaged, its arrays are no images and labels, or they hold Python objects: those
            are pickles, which can run code.
    """
    path = Path(source)
    arrays = _read(path)
    test = _pair(arrays, _TEST)
    if test is None:
        raise DataError(
            f"{path.name} holds the arrays {', '.join(sorted(arrays)) or 'none'}; x_test and y_test (x_train and "
            "y_train too, to train), or images and labels, were expected. Save it with numpy.savez under these names."
        )
    train = _pair(arrays, _TRAIN)
    labels = [test[1]] + ([train[1]] if train else [])
    classes = _names(arrays["classes"], path) if "classes" in arrays else number_names(labels, path.name)
    pixel_range, notes = array_range([pair[0] for pair in (test, train) if pair], path.name, options.pixel_range)
    splits = {
        name: array_split(
            *pair, name=name, classes=len(classes), source=f"{path.name} ({name})", pixel_range=pixel_range
        )
        for name, pair in (("test", test), ("train", train))
        if pair
    }
    shapes = {name: split.fetch(np.zeros(1, np.int64)).shape[1:] for name, split in splits.items()}
    if len(set(shapes.values())) > 1:
        raise DataError(
            f"{path.name} has training images of shape {shapes['train']} but test images of {shapes['test']}."
        )
    channels, height, width = shapes["test"]
    shape = (channels, height, width)
    named = pixel_range if notes or options.pixel_range else None
    return Dataset(path.name, classes, shape, splits["test"], splits.get("train"), notes, named)


def _read(path: Path) -> Mapping[str, NDArray[Any]]:
    if not path.is_file():
        raise DataError(f"No file {str(path)!r}; give the .npz file after npz:.")
    try:
        with zipfile.ZipFile(path) as archive:
            size = sum(member.file_size for member in archive.infolist())
        if size > LARGEST_ARCHIVE:
            raise DataError(
                f"{path.name} unpacks to {size / 2**30:.0f} GB, and its arrays would live in memory; at most "
                f"{LARGEST_ARCHIVE >> 30} GB is read. Save the images as files and use folder:DIR."
            )
        with np.load(path, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except (zipfile.BadZipFile, zlib.error, OSError, EOFError, KeyError, ValueError) as fault:
        if "allow_pickle" in str(fault):
            raise DataError(
                f"{path.name} holds arrays of Python objects, which are pickles and could run code; they are not read. "
                "Save plain numbers, and names as a text array."
            ) from fault
        raise DataError(
            f"{path.name} is not a whole .npz archive ({fault}); write it again with numpy.savez."
        ) from fault


def _pair(
    arrays: Mapping[str, NDArray[Any]], names: tuple[tuple[str, str], ...]
) -> tuple[NDArray[Any], NDArray[Any]] | None:
    return next(((arrays[x], arrays[y]) for x, y in names if x in arrays and y in arrays), None)


def _names(array: NDArray[Any], path: Path) -> tuple[str, ...]:
    names = tuple(str(name) for name in array.reshape(-1))
    if array.dtype.kind not in "US" or len(names) < 2 or len(set(names)) != len(names):
        raise DataError(f"{path.name}: `classes` is {names[:5]}; two or more different names as text were expected.")
    return names
