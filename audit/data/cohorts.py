"""What a table says of images beside their labels, such as a place, a device or an age: groups and numbers."""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from audit.core.errors import DataError
from audit.core.image_options import ORIGINAL_ASPECT, ORIGINAL_SIDE
from audit.core.note import Note, note
from audit.data.image_survey import printable

Cohorts = Mapping[str, NDArray[Any]]
"""By name of a column, one value an example: float64 (N,), NaN where there is none; or texts (N,), "" where none."""
Cells = Mapping[str, Mapping[str, object]]
"""By name of a column, its cells by the name of the file."""
METADATA = ("metadata.csv", "metadata.tsv", "metadata.jsonl")
"""Tables beside the pictures of a folder, as Hugging Face names them."""
MOST_GROUPS = 50
"""A text column of more different values is no column of groups: names, notes, identifiers."""
_IDENTIFIERS = frozenset(("id", "ids", "uid", "idx", "index", "key"))
_LISTED = 12


def group_columns(
    names: Sequence[str],
    columns: Iterable[tuple[str, Sequence[object]]],
    labels: Mapping[str, int],
    table: str,
    aside: Iterable[str] = (),
) -> tuple[Cells, tuple[Note, ...]]:
    """The columns of a table by which images can be compared, and what is to be said of all of them.

    A column that follows from the class, as its name does, is left out without a word; one that tells nearly every
    image apart, such as a name, a remark or an identifier, is named as left aside.

    Args:
        names: The file of each row.
        columns: The name and the cells of each column that holds nothing else, taken one at a time.
        labels: The class of each file, by its name.
        table: The table's name.
        aside: Columns whose cells are no values, such as lists and images.
    """
    rows = {name: row for row, name in enumerate(names)}
    kept: dict[str, Mapping[str, object]] = {}
    left = list(aside)
    for column, cells in columns:
        if _follows(labels, rows, cells):
            continue
        if _parsed(cells) is None or _identifies(column, cells):
            left.append(column)
        else:
            kept[printable(column)] = _Column(rows, cells)
    return kept, tuple(_column_notes(list(kept), [printable(column) for column in left], printable(table)))


class _Column(Mapping[str, object]):
    """The cells of a column by the name of the file; the rows are shared between columns, as there may be a million."""

    def __init__(self, rows: Mapping[str, int], cells: Sequence[object]):
        self._rows, self._cells = rows, cells

    def __getitem__(self, name: str) -> object:
        return self._cells[self._rows[name]]

    def __iter__(self) -> Iterator[str]:
        return iter(self._rows)

    def __len__(self) -> int:
        return len(self._rows)


def _follows(labels: Mapping[str, int], rows: Mapping[str, int], cells: Sequence[object]) -> bool:
    """Whether there is one value for each class."""
    pairs = {(label, str(cells[rows[name]])) for name, label in labels.items() if name in rows}
    return len(pairs) == len({label for label, _ in pairs})


def _identifies(column: str, cells: Sequence[object]) -> bool:
    """Whether a column of whole numbers is one of identifiers: by its name, and as no number is there twice."""
    words = set(re.findall("[a-z]+", re.sub(r"(?<=[a-z])(?=[A-Z])", " ", column).casefold()))
    texts = [text for text in map(_text, cells) if text]
    return bool(words & _IDENTIFIERS) and len(set(texts)) == len(texts) and all(text.isdecimal() for text in texts)


def _column_notes(kept: Sequence[str], left: Sequence[str], table: str) -> Iterator[Note]:
    if kept:
        yield note(
            "data_columns_kept",
            "Columns of {table} that are kept to compare groups of images: {columns}.",
            table=table,
            columns=", ".join(kept),
        )
    if left:
        yield note(
            "data_columns_aside",
            "Columns of {table} that make no groups of images and are left aside: {columns}.",
            table=table,
            columns=", ".join(left[:_LISTED]) + (f", ... ({len(left)})" if len(left) > _LISTED else ""),
        )


def has_many_texts(cells: Sequence[object]) -> bool:
    """Whether there are more different texts than a column of groups has.

    Args:
        cells: Some cells of a column.
    """
    texts = {text for cell in cells if isinstance(cell, str) and (text := _text(cell))}
    return len(texts) > MOST_GROUPS and any(_number(text) is None for text in texts)


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
    texts = [_text(cell) for cell in cells]
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


def _text(cell: object) -> str:
    """A cell as text; "" where it says nothing."""
    text = "" if cell is None else str(cell).strip()
    return "" if text in ("nan", "NaN") else text


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None
