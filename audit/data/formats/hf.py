"""A local Hugging Face data set: Parquet files as the Hub stores them, or Arrow files as save_to_disk writes them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from audit.core.errors import DataError
from audit.data.dataset import Dataset
from audit.data.folder_layout import TEST, TRAIN, VALIDATION
from audit.data.formats.hf_tables import ENDINGS, Cache, Table
from audit.data.image_files import ImageFile, image_file_dataset, printable
from audit.data.options import LoadOptions

_MOST_FILES = 100_000


def load_hf(place: str, wish: LoadOptions) -> Dataset:
    """The pictures in a folder's .parquet or .arrow files; read in place, nothing is downloaded and no script run.

    A file's split is its name up to the first dash, or its folder's: train, test, else validation. The columns are
    `image` (bytes) and `label` (a ClassLabel, a whole number or a name). Raises DataError naming the file.
    """
    root = Path(place)
    if not root.is_dir():
        raise DataError(f"No folder {place!r}; give a local Hugging Face data set, with .parquet or .arrow files.")
    files, notes = _chosen(_by_split(root), root)
    cache = Cache()
    tables = {str(path.relative_to(root)): Table(path, cache) for paths in files.values() for path in paths}
    written = {name: table.labels() for name, table in tables.items()}
    classes = _classes(tables, written)
    if len(classes) < 2:
        raise DataError(f"The data has the single label {classes[0]!r}; at least two classes were expected.")
    parts = {
        part: [one for path in paths for one in _files(str(path.relative_to(root)), written, classes)]
        for part, paths in files.items()
    }

    def read(name: str) -> bytes:
        file, _, row = name.rpartition("/")
        return tables[file].picture(int(row))

    return image_file_dataset(read, printable(root.resolve().name), classes, parts, wish, notes)


def _by_split(root: Path) -> dict[str, list[Path]]:
    """The table files by the word for their split. Raises DataError when two folders hold the same split."""
    found: dict[str, list[Path]] = {}
    for path in sorted(path for ending in ENDINGS for path in root.rglob(f"*{ending}")):
        if not path.name.startswith(("cache-", ".")) and path.is_file():
            found.setdefault(_word(path, root), []).append(path)
    if not found or sum(map(len, found.values())) > _MOST_FILES:
        raise DataError(
            f"{printable(root.name)!r} holds no .parquet or .arrow files; give a data set as the Hub stores it or as "
            "save_to_disk writes it. A folder of pictures is folder:DIR."
        )
    for word, paths in found.items():
        folders = sorted({path.parent.name for path in paths})
        if len({path.parent for path in paths}) > 1:
            raise DataError(
                f"The {word} split of {printable(root.name)!r} lies in several folders ({', '.join(folders[:4])}); "
                "give one of these configurations alone."
            )
    return found


def _word(path: Path, root: Path) -> str:
    """The split a file belongs to, by its name or its folder's; "test" when neither says."""
    words = [re.split(r"[-_.]", path.name)[0], *(folder.name for folder in path.relative_to(root).parents)]
    known = (*TRAIN, *TEST, *VALIDATION)
    return next((word.lower() for word in words if word.lower() in known), "test")


def _chosen(splits: Mapping[str, list[Path]], root: Path) -> tuple[dict[str, list[Path]], tuple[str, ...]]:
    """The files to train on and to test on. Raises DataError where all of them are of the training split."""
    train = next((splits[word] for word in TRAIN if word in splits), None)
    word = next((word for word in (*TEST, *VALIDATION) if word in splits), None)
    if word is None:
        raise DataError(f"{printable(root.name)!r} holds a train split alone; a test or validation split too.")
    left = sorted(set(splits) - {word, *TRAIN})
    notes = tuple(f"The split {name!r} is not used: the test part is {word!r}." for name in left)
    return {"test": splits[word], **({"train": train} if train else {})}, notes


def _classes(tables: Mapping[str, Table], written: Mapping[str, Sequence[Any]]) -> tuple[str, ...]:
    """Class names in label order. Raises DataError when files disagree or labels are of no class."""
    said = {table.names for table in tables.values()}
    if len(said) > 1:
        raise DataError("The files name different classes; one list of classes in all of them was expected.")
    names = said.pop()
    values = [value for labels in written.values() for value in labels]
    if not values:
        raise DataError("The tables hold no rows; one a picture was expected.")
    if all(type(value) is int for value in values):
        return names or tuple(str(i) for i in range(min(max(1, *values), 99_999) + 1))
    if all(isinstance(value, str) for value in values):
        return tuple(sorted({printable(value) for value in values}))
    odd = next(value for value in values if type(value) is not int)
    raise DataError(f"A label is {str(odd)[:40]!r}; whole numbers from 0, or names throughout, were expected.")


def _files(file: str, written: Mapping[str, Sequence[Any]], classes: tuple[str, ...]) -> list[ImageFile]:
    places = {name: place for place, name in enumerate(classes)}
    found = []
    for row, value in enumerate(written[file]):
        label = value if isinstance(value, int) else places[printable(value)]
        if not 0 <= label < len(classes):
            hint = " A test split without labels cannot be audited: keep the validation split alone." * (label == -1)
            raise DataError(
                f"{printable(file)}, row {row}: the label is {label}; 0 to {len(classes) - 1} was expected.{hint}"
            )
        found.append(ImageFile(f"{file}/{row}", label))
    return found
