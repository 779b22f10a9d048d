"""Tables as text: CSV with any delimiter, with or without a header, and JSON Lines."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from audit.core.errors import DataError
from audit.core.note import Note, note
from audit.data.image_decoding import IMAGE_SUFFIXES
from audit.data.image_survey import printable
from audit.data.json_tables import json_records
from audit.data.other_files import other_kind
from audit.data.pixel_tables import require_no_pixels
from audit.data.plain_text import plain_text_of
from audit.data.split_names import split_of

_MOST_BYTES = 1 << 30


@dataclass(frozen=True)
class TextTable:
    """A table.

    Attributes:
        name: The file's name.
        columns: The names of the columns.
        rows: The cells of each row, in the order of the columns; None for one that is not there.
        lines: The number of the line of each row in the file, from 1.
        notes: What is to be said of how it was read.
    """

    name: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Any, ...], ...]
    lines: tuple[int, ...]
    notes: tuple[Note, ...] = ()

    def column(self, name: str) -> list[Any]:
        """The cells of a column.

        Args:
            name: One of `columns`.
        """
        position = self.columns.index(name)
        return [row[position] for row in self.rows]

    def place(self, row: int) -> str:
        """Where a row stands, for errors: "list.csv, line 3".

        Args:
            row: Its number, from 0.
        """
        return f"{self.name}, line {self.lines[row]}"


def read_text_table(path: Path) -> TextTable:
    """Read a .csv or .tsv file, delimited by commas, semicolons, tabs or bars, or a .json, .jsonl or .ndjson file.

    Args:
        path: The file.

    Raises:
        DataError: When it cannot be read or is no such table, naming the line.
    """
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise DataError(f"{path.name} has over {_MOST_BYTES >> 30} GB, no size for a list of paths.")
        if path.is_file() and path.stat().st_size and (kind := other_kind(path)):
            raise DataError(f"{printable(path.name)} {kind}.")
        return text_table_of(path.read_bytes(), path.name)
    except OSError as fault:
        raise DataError(f"No manifest {str(path)!r} ({fault.strerror}); give a .csv or .jsonl file.") from fault


def text_table_of(body: bytes, file: str) -> TextTable:
    """Read the bytes of such a file.

    Args:
        body: The bytes.
        file: The file's name, whose suffix says what it is.

    Raises:
        DataError: It is no such table; the sentence names the line.
    """
    name, suffix = printable(file), PurePosixPath(file).suffix.lower()
    try:
        text = plain_text_of(body)
    except UnicodeDecodeError as fault:
        raise DataError(f"{name} is not UTF-8 text (byte {fault.start}); save it as CSV in UTF-8.") from fault
    if suffix in (".jsonl", ".ndjson"):
        return _from_records(_json_rows(text, name), name)
    if suffix == ".json":
        return _from_records(_json_records(text, name), name)
    return _from_csv(text, name)


def _from_csv(text: str, name: str) -> TextTable:
    first = next((line for line in text.splitlines() if line.strip()), "")
    if first.lower().startswith("sep=") and len(first.strip()) == 5:  # a line that Excel writes for itself
        text = text.split(first, 1)[1].lstrip("\r\n")
        first = next((line for line in text.splitlines() if line.strip()), "")
    if pairs := _spaced_pairs(text):
        return _without_header(name, ("path", "label"), pairs, range(1, len(pairs) + 1))
    delimiter = max(",;\t|", key=first.count)
    if not first.count(delimiter) and (spaced := _spaced_table(text)):
        text, delimiter = spaced, "\t"
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True, skipinitialspace=True)
    rows: list[tuple[str, ...]] = []
    lines: list[int] = []
    try:
        for row in reader:
            if not any(cell.strip() for cell in row):
                continue
            if rows and len(row) != len(rows[0]):
                raise DataError(
                    f"{name}, line {reader.line_num}: {len(rows[0])} columns were expected, as in the header. Quote "
                    "values that hold the delimiter."
                )
            rows.append(tuple(row))
            lines.append(reader.line_num)
    except csv.Error as fault:
        raise DataError(f"{name}, line {reader.line_num}: not CSV ({fault}). Save it again as UTF-8 CSV.") from fault
    if not rows:
        return TextTable(name, (), (), ())
    if columns := _columns_without_header(rows[0]):
        return _without_header(name, columns, rows, lines)
    require_no_pixels(rows[:1], name)
    return TextTable(name, _distinct([cell.strip() for cell in rows[0]], name), tuple(rows[1:]), tuple(lines[1:]))


def _without_header(
    name: str, columns: tuple[str, ...], rows: Sequence[tuple[str, ...]], lines: Sequence[int]
) -> TextTable:
    said = note(
        "data_no_header",
        "{name} has no header: its columns are read as {columns}.",
        name=name,
        columns=", ".join(columns),
    )
    return TextTable(name, columns, tuple(rows), tuple(lines), (said,))


def _spaced_pairs(text: str) -> list[tuple[str, str]]:
    """Path and label of lines such as "val/0001.JPEG 65", as Caffe's lists have them; empty for any other text."""
    pairs = []
    for words in filter(None, map(str.split, text.splitlines())):
        path = " ".join(words[:-1])
        if PurePosixPath(path).suffix.lower() not in IMAGE_SUFFIXES or any(mark in path for mark in ",;\t|"):
            return []
        pairs.append((path, words[-1]))
    return pairs


def _spaced_table(text: str) -> str:
    """The table with tabs, of a text whose rows have equally many words, as CelebA's lists have; "" for any other.

    A count of the rows may stand above, and a header may lack the name of the first column, the paths.
    """
    lines = [line.split() for line in text.splitlines() if line.strip()]
    if len(lines) > 2 and len(lines[0]) == 1 and lines[0][0].isdigit():
        lines = lines[1:]
    width = len(lines[-1]) if len(lines) > 1 else 0
    if width < 2 or any(len(words) != width for words in lines[1:]):
        return ""
    if len(lines[0]) == width - 1:
        lines[0] = ["path", *lines[0]]
    return "\n".join("\t".join(words) for words in lines) if len(lines[0]) == width else ""


def _columns_without_header(first: Sequence[str]) -> tuple[str, ...]:
    """The names of the columns where the first row is a picture and its label already; empty where it is a header."""
    suffixes = [PurePosixPath(cell.strip()).suffix.lower() in IMAGE_SUFFIXES for cell in first]
    if len(first) < 2 or not suffixes[0] or suffixes[1]:
        return ()
    third = "split" if len(first) > 2 and split_of(first[2]) else "mask" if len(first) == 3 and suffixes[2] else "3"
    return ("path", "label", third, *map(str, range(4, len(first) + 1)))[: len(first)]


def _from_records(records: Iterator[tuple[int, dict[str, Any]]], name: str) -> TextTable:
    rows, lines = [], []
    for number, row in records:
        rows.append({str(key).strip(): value for key, value in row.items()})
        lines.append(number)
    columns = tuple(dict.fromkeys(column for row in rows for column in row))
    return TextTable(name, columns, tuple(tuple(row.get(c) for c in columns) for row in rows), tuple(lines))


def _json_rows(text: str, name: str) -> Iterator[tuple[int, dict[str, Any]]]:
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as fault:
            raise DataError(f"{name}, line {number}: not JSON ({str(fault)[:80]}); write one object a line.") from fault
        if not isinstance(row, dict):
            raise DataError(f"{name}, line {number}: an object with path and label was expected.")
        yield number, row


def _json_records(text: str, name: str) -> Iterator[tuple[int, dict[str, Any]]]:
    """The records of a JSON document, numbered from 1; one a line where the lines are documents of their own."""
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as fault:
        lines = text.strip().splitlines()
        if len(lines) > 1 and all(line.strip()[:1] + line.strip()[-1:] == "{}" for line in lines if line.strip()):
            yield from _json_rows(text, name)
            return
        raise DataError(f"{name} is not JSON ({str(fault)[:80]}); copy it again.") from fault
    yield from enumerate(json_records(content, name), start=1)


def _distinct(columns: Sequence[str], name: str) -> tuple[str, ...]:
    """Raises DataError where two columns have one name."""
    twice = next((column for column in columns if column and columns.count(column) > 1), None)
    if twice is not None:
        raise DataError(f"{name} has two columns {printable(twice)!r}; give each a name of its own.")
    return tuple(columns)
