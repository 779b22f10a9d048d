"""A Hugging Face data set on disk: Parquet files as the Hub stores them, or Arrow files as save_to_disk writes them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from audit.core.errors import DataError
from audit.core.note import Note, note
from audit.core.registry import data_format
from audit.data.dataset import Dataset, LoadOptions
from audit.data.folder_layout import TEST, TRAIN, VALIDATION
from audit.data.formats.hf_tables import TABLE_SUFFIXES, Cache, Table
from audit.data.image_files import image_file_dataset
from audit.data.image_survey import ImageFile, printable

_MOST_FILES = 100_000


@data_format(argument="DIR", images=True)
def hf(path: str, options: LoadOptions) -> Dataset:
    """A Hugging Face data set on disk: .parquet or .arrow files; nothing is downloaded and no script is run.

    A file's split is its name up to the first dash, or its folder's: train, test, else validation. The columns are
    `image` (bytes) and `label` (a ClassLabel, a whole number or a name).

    Args:
        path: The folder of the files.
        options: Size, colour and crop of the images.

    Raises:
        DataError: For a folder without such files, a damaged file, or labels that are no classes.
    """
    root = Path(path)
    if not root.is_dir():
        raise DataError(f"No folder {path!r}; give a local Hugging Face data set, with .parquet or .arrow files.")
    files, notes = _train_and_test(_by_split(root), root)
    cache = Cache()
    tables = {str(file.relative_to(root)): Table(file, cache) for paths in files.values() for file in paths}
    labels = {name: table.labels() for name, table in tables.items()}
    classes = _classes(tables, labels)
    if len(classes) < 2:
        raise DataError(f"The data has the single label {classes[0]!r}; at least two classes were expected.")
    files_by_split = {
        split: [image for file in paths for image in _image_files(str(file.relative_to(root)), labels, classes)]
        for split, paths in files.items()
    }

    def read(name: str) -> bytes:
        file, _, row = name.rpartition("/")
        return tables[file].image_bytes(int(row))

    return image_file_dataset(read, printable(root.resolve().name), classes, files_by_split, options, notes)


def _by_split(root: Path) -> dict[str, list[Path]]:
    """The table files by the word for their split. Raises DataError when two folders hold the same split."""
    splits: dict[str, list[Path]] = {}
    for path in sorted(path for suffix in TABLE_SUFFIXES for path in root.rglob(f"*{suffix}")):
        if not path.name.startswith(("cache-", ".")) and path.is_file():
            splits.setdefault(_split_of(path, root), []).append(path)
    if not splits or sum(map(len, splits.values())) > _MOST_FILES:
        raise DataError(
            f"{printable(root.name)!r} holds no .parquet or .arrow files; give a data set as the Hub stores it or as "
            "save_to_disk writes it. A folder of pictures is folder:DIR."
        )
    for split, paths in splits.items():
        folders = sorted({path.parent.name for path in paths})
        if len({path.parent for path in paths}) > 1:
            raise DataError(
                f"The {split} split of {printable(root.name)!r} lies in several folders ({', '.join(folders[:4])}); "
                "give one of these configurations alone."
            )
    return splits


def _split_of(path: Path, root: Path) -> str:
    """The split a file belongs to, by its name or its folder's; "test" when neither says."""
    words = [re.split(r"[-_.]", path.name)[0], *(folder.name for folder in path.relative_to(root).parents)]
    split_words = (*TRAIN, *TEST, *VALIDATION)
    return next((word.lower() for word in words if word.lower() in split_words), "test")


def _train_and_test(splits: Mapping[str, list[Path]], root: Path) -> tuple[dict[str, list[Path]], tuple[Note, ...]]:
    """The files to train on and to test on. Raises DataError where all of them are of the training split."""
    train = next((splits[word] for word in TRAIN if word in splits), None)
    word = next((word for word in (*TEST, *VALIDATION) if word in splits), None)
    if word is None:
        raise DataError(f"{printable(root.name)!r} holds a train split alone; a test or validation split too.")
    unused = sorted(set(splits) - {word, *TRAIN})
    notes = tuple(
        note("data_split", "The split '{name}' is not used: the test part is '{used}'.", name=name, used=word)
        for name in unused
    )
    return {"test": splits[word], **({"train": train} if train else {})}, notes


def _classes(tables: Mapping[str, Table], labels: Mapping[str, Sequence[Any]]) -> tuple[str, ...]:
    """Class names in label order. Raises DataError when files disagree or labels are of no class."""
    listed = {table.names for table in tables.values()}
    if len(listed) > 1:
        raise DataError("The files name different classes; one list of classes in all of them was expected.")
    names = listed.pop()
    values = [value for column in labels.values() for value in column]
    if not values:
        raise DataError("The tables hold no rows; one a picture was expected.")
    if all(type(value) is int for value in values):
        return names or tuple(str(i) for i in range(min(max(1, *values), 99_999) + 1))
    if all(isinstance(value, str) for value in values):
        return tuple(sorted({printable(value) for value in values}))
    invalid = next(value for value in values if type(value) is not int)
    raise DataError(f"A label is {str(invalid)[:40]!r}; whole numbers from 0, or names throughout, were expected.")


def _image_files(file: str, labels: Mapping[str, Sequence[Any]], classes: tuple[str, ...]) -> list[ImageFile]:
    numbers = {name: number for number, name in enumerate(classes)}
    files = []
    for row, value in enumerate(labels[file]):
        label = value if isinstance(value, int) else numbers[printable(value)]
        if not 0 <= label < len(classes):
            hint = " A test split without labels cannot be audited: keep the validation split alone." * (label == -1)
            raise DataError(
                f"{printable(file)}, row {row}: the label is {label}; 0 to {len(classes) - 1} was expected.{hint}"
            )
        files.append(ImageFile(f"{file}/{row}", label))
    return files
