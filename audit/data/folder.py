"""A folder of pictures on disk, laid out as `audit.data.layout` reads it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from audit.data.dataset import Dataset
from audit.data.layout import lay_out
from audit.data.picture_files import below, picture_dataset, printable
from audit.data.wish import Wish
from audit.errors import DataError


def load_folder(place: str, wish: Wish) -> Dataset:
    """The data set in a folder: class per folder, perhaps inside train and test (or validation) folders."""
    root = Path(place)
    if not root.is_dir():
        raise DataError(f"No folder {place!r}; give the one that holds a folder of images for each class.")
    name = printable(root.resolve().name)
    layout = lay_out(list(_entries(root, "", frozenset())), name)
    return picture_dataset(below(root / layout.base), name, layout.classes, layout.parts, wish, layout.notes)


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
