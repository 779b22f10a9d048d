"""What a table says of images beside their labels, such as a place, a device or an age: groups and numbers."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from audit.core.errors import DataError
from audit.core.image_options import ORIGINAL_ASPECT, ORIGINAL_SIDE
from audit.core.note import Note, note
from audit.data.image_survey import printable
from audit.data.text_tables import TextTable

Cohorts = Mapping[str, NDArray[Any]]
"""By name of a column, one value an example: float64 (N,), NaN where there is none; or texts (N,), "" where none."""
Cells = Mapping[str, Mapping[str, object]]
"""By name of a column, its cells by the name of the file."""
METADATA = ("metadata.csv", "metadata.tsv", "metadata.jsonl")
"""Tables beside the pictures of a folder, as Hugging Face names them."""
MOST_GROUPS = 50
"""A text column of more different values is no column of groups: names, notes, identifiers."""


def cells_by_file(names: Sequence[str], table: TextTable, taken: Iterable[str | None]) -> dict[str, dict[str, object]]:
    """The columns of a table that say something beside paths and labels.

    Args:
        names: The file of each row.
        table: The table.
        taken: Columns that hold something else.
    """
    aside = set(taken)
    left = [column for column in table.columns if column not in aside and column.strip()]
    cells = {printable(column): dict(zip(names, table.column(column), strict=True)) for column in left}
    return {column: values for column, values in cells.items() if _parsed(list(values.values())) is not None}


def without_labels(cells: Cells, labels: Mapping[str, int]) -> Cells:
    """The columns that do not follow from the class, as its name does.

    Args:
        cells: The cells.
        labels: The class of each file, by its name.
    """

    def follows(by_file: Mapping[str, object]) -> bool:
        pairs = {(labels[name], str(by_file[name])) for name in labels.keys() & by_file.keys()}
        return len(pairs) == len({label for label, _ in pairs})

    return {column: by_file for column, by_file in cells.items() if not follows(by_file)}


def cohorts_of(cells: Cells, files: Sequence[Sequence[str]]) -> list[dict[str, NDArray[Any]]]:
    """The columns over the files of each part; a column is one of numbers where it is so in every part.

    Args:
        cells: The cells, see `Cells`.
        files: The names of the files of each part.
    """
    parts: list[dict[str, NDArray[Any]]] = [{} for _ in files]
    for column, by_file in cells.items():
        parsed = _parsed([by_file.get(name) for names in files for name in names])
        if parsed is None:
            continue
        stops = np.cumsum([len(names) for names in files])[:-1]
        for part, values in zip(parts, np.split(parsed, stops), strict=True):
            part[column] = values
    return parts


def size_cells(sizes: Mapping[str, tuple[int, int]]) -> dict[str, dict[str, object]]:
    """The side and the proportions of files, as columns; nothing where all are alike.

    Args:
        sizes: Height and width of each file, by its name.
    """
    if len(set(sizes.values())) < 2:
        return {}
    return {
        ORIGINAL_SIDE: {name: math.sqrt(height * width) for name, (height, width) in sizes.items()},
        ORIGINAL_ASPECT: {name: round(width / height, 3) for name, (height, width) in sizes.items()},
    }


def cohort_notes(cells: Cells, name: str) -> tuple[Note, ...]:
    """Say which columns are kept.

    Args:
        cells: The cells.
        name: The table's name.
    """
    if not cells:
        return ()
    said = note(
        "data_columns_kept",
        "Columns of {table} that are kept to compare groups of images: {columns}.",
        table=printable(name),
        columns=", ".join(cells),
    )
    return (said,)


def unread_note(name: str, fault: DataError) -> Note:
    """Say that a table beside the pictures says nothing.

    Args:
        name: The table's path.
        fault: Why it cannot be read.
    """
    return note("data_metadata_unread", "{table} was left aside: {why}", table=printable(name), why=str(fault))


def cohorts_fingerprint(cohorts: Cohorts) -> str:
    """SHA-256 of the columns; empty without any.

    Args:
        cohorts: The columns.
    """
    if not cohorts:
        return ""
    digest = hashlib.sha256()
    for name, values in sorted(cohorts.items()):
        digest.update(repr((name, [str(value) for value in values.tolist()])).encode())
    return digest.hexdigest()


def is_metadata(path: str) -> bool:
    """Whether a file of a folder is a table of what is known of its pictures.

    Args:
        path: Its path, with forward slashes.
    """
    return PurePosixPath(path).name.casefold() in METADATA


def _parsed(cells: Sequence[object]) -> NDArray[Any] | None:
    """A column as numbers or texts; None for one that makes no groups: all alike, counted through, or nearly all
    different texts."""
    texts = ["" if cell is None else str(cell).strip() for cell in cells]
    known = [text for text in texts if text]
    if len(set(known)) < 2:
        return None
    numbers = [_number(text) for text in known]
    if all(number is not None for number in numbers):
        values = np.array([math.nan if not text else float(text) for text in texts])
        steps = np.diff(values)
        counted = len(known) == len(texts) and len(values) > 2 and bool((steps == steps[0]).all())
        return None if counted else values
    if len(set(known)) > min(MOST_GROUPS, max(2, len(known) // 2)):
        return None
    return np.array([printable(text) for text in texts])


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None
