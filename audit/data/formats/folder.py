"""A folder of pictures on disk, laid out as `audit.data.folder_layout` reads it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from audit.core.errors import DataError
from audit.data.dataset import Dataset
from audit.data.folder_layout import infer_layout
from audit.data.image_files import image_file_dataset, printable, reader_below
from audit.data.options import LoadOptions


def load_folder(place: str, wish: LoadOptions) -> Dataset:
    """The data set in a folder: class per folder, perhaps inside train and test (or validation) folders."""
    root = Path(place)
    if not root.is_dir():
        raise DataError(f"No folder {place!r}; give the one that holds a folder of images for each class.")
    name = printable(root.resolve().name)
    layout = infer_layout(list(_entries(root, "", frozenset())), name)
    return image_file_dataset(reader_below(root / layout.base), name, layout.classes, layout.parts, wish, layout.notes)


def _entries(root: Path, folder: str, above: frozenset[str]) -> Iterator[str]:
    """Regular files and folders below `root`, relative; links are followed, but never in a circle."""
    here = os.path.realpath(root / folder)
    if here in above:
        return
    try:
        found = sorted(os.scandir(root / folder), key=lambda entry: os.fsencode(entry.name))
    except OSError as fault:
        raise DataError(f"The folder {printable(folder) or '.'!r} cannot be read ({fault.strerror}).") from fault
    for entry in found:
        path = f"{folder}{entry.name}"
        if entry.is_dir():
            yield f"{path}/"
            yield from _entries(root, f"{path}/", above | {here})
        elif entry.is_file():
            yield path
