"""A manifest of images, CSV or JSON Lines: a path and a label each, perhaps a split and a mask."""

from __future__ import annotations

import csv
import io
import json
import posixpath
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from audit.core.errors import DataError
from audit.core.note import note
from audit.core.registry import data_format
from audit.data.dataset import Dataset, LoadOptions
from audit.data.folder_layout import split_of
from audit.data.image_files import image_file_dataset, reader_below
from audit.data.image_survey import ImageFile, printable

_PATH = ("path", "file", "filename", "file_name", "image", "image_path")
_LABEL = ("label", "class", "target", "category", "class_name")
_SPLIT = ("split", "part", "subset", "set")
_MASK = ("mask", "mask_path", "segmentation")
_MOST_BYTES = 1 << 30


@dataclass(frozen=True, slots=True)
class _Line:
    number: int
    path: str
    label: str
    split: str
    mask: str


@data_format(argument="FILE", images=True)
def manifest(source: str, options: LoadOptions) -> Dataset:
    """The images that a .csv, .tsv, .jsonl or .ndjson file lists, perhaps with splits and masks.

    Columns `path` and `label` (a name, or a whole number from 0), optionally `split` (train, test, validation;
    without it everything is the test part) and `mask` (an image that is bright where the object is; attributions are
    then compared with it). Paths are relative to the manifest's folder.

    Args:
        source: The manifest's path.
        options: Size, colour and crop of the images.

    Raises:
        DataError: When the manifest is no such file, naming the line, or the images cannot be used.
    """
    path = Path(source)
    text = _text(path)
    rows = _json_rows(text, path.name) if path.suffix.lower() in (".jsonl", ".ndjson") else _csv_rows(text, path.name)
    lines = [_line(row, number, path.name) for number, row in rows]
    if not lines:
        raise DataError(f"{path.name} names no images; a header and one line an image were expected.")
    _require_once(lines, path.name)
    names = _class_names([line.label for line in lines], path.name)
    labels = {name: label for label, name in enumerate(names)}
    files: dict[str, list[ImageFile]] = {}
    for line in lines:
        split = _split_of(line, path.name)
        files.setdefault(split, []).append(ImageFile(line.path, labels[line.label], line.mask))
    if "test" not in files:
        raise DataError(f"Every line of {path.name} is of the train split; lines of a test or validation split too.")
    no_splits = note("data_manifest", "The manifest names no splits: every image is used to test.")
    notes = () if any(line.split for line in lines) else (no_splits,)
    return image_file_dataset(reader_below(path.parent), printable(path.name), names, files, options, notes)


def _text(path: Path) -> str:
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise DataError(f"{path.name} has over {_MOST_BYTES >> 30} GB, no size for a list of paths.")
        return path.read_text(encoding="utf-8-sig")
    except OSError as fault:
        raise DataError(f"No manifest {str(path)!r} ({fault.strerror}); give a .csv or .jsonl file.") from fault
    except UnicodeDecodeError as fault:
        raise DataError(f"{path.name} is not UTF-8 text (byte {fault.start}); save it as UTF-8.") from fault


def _csv_rows(text: str, name: str) -> Iterator[tuple[int, dict[str, Any]]]:
    first = text.split("\n", 1)[0]
    delimiter = max(",;\t", key=first.count)
    reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    try:
        for row in reader:
            if None in row or None in row.values():
                raise DataError(
                    f"{name}, line {reader.line_num}: {len(reader.fieldnames or ())} columns were expected, as in the "
                    "header. Quote values that hold the delimiter."
                )
            yield reader.line_num, row
    except csv.Error as fault:
        raise DataError(f"{name}, line {reader.line_num}: not CSV ({fault}). Save it again as UTF-8 CSV.") from fault


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


def _line(row: dict[str, Any], number: int, name: str) -> _Line:
    cells = {str(key).strip().lower(): value for key, value in row.items()}
    path = _inside(_cell(cells, _PATH, "path", number, name), number, name)
    label = _cell(cells, _LABEL, "label", number, name)
    if re.fullmatch(r"-[0-9]+", label):
        raise DataError(
            f"{name}, line {number}: the label {label} is negative; whole numbers from 0, or names, were expected."
        )
    split = next((str(cells[key] or "") for key in _SPLIT if key in cells), "")
    mask = next((str(cells[key] or "").strip() for key in _MASK if key in cells), "")
    return _Line(number, path, label, split, _inside(mask, number, name) if mask else "")


def _inside(path: str, number: int, name: str) -> str:
    """`path` in its plainest form. Raises DataError when it leads out of the manifest's folder."""
    steps = path.replace("\\", "/").split("/")
    if any("\ud800" <= character <= "\udfff" for character in path):
        raise DataError(f"{name}, line {number}: a path holds half a character; save the manifest as UTF-8.")
    if not path.strip("./") or path.startswith(("/", "\\")) or ".." in steps or "\0" in path:
        raise DataError(
            f"{name}, line {number}: {printable(path)!r} leads outside the manifest's folder; name files relative to "
            "it, and put the manifest beside or above the images."
        )
    return posixpath.normpath(path)


def _cell(row: dict[str, Any], columns: Sequence[str], what: str, number: int, name: str) -> str:
    value = next((row[column] for column in columns if column in row), None)
    if isinstance(value, bool) or not isinstance(value, str | int) or not str(value).strip():
        raise DataError(
            f"{name}, line {number}: no {what}; a column {what!r} with a value on every line was expected, and the "
            f"columns are {', '.join(printable(key) for key in list(row)[:8]) or 'none'}."
        )
    text = str(value).strip()
    if not text.isascii() and any("\ud800" <= character <= "\udfff" for character in text):
        raise DataError(f"{name}, line {number}: the {what} holds half a character; save the manifest as UTF-8.")
    return text


def _require_once(lines: Sequence[_Line], name: str) -> None:
    first_line: dict[str, int] = {}
    for line in lines:
        if line.path in first_line:
            raise DataError(
                f"{name}, line {line.number}: {printable(line.path)!r} is named on line {first_line[line.path]} "
                "already; name each image once."
            )
        first_line[line.path] = line.number


def _class_names(labels: Sequence[str], name: str) -> tuple[str, ...]:
    """Sorted names; whole numbers in the order of counting, with those in between that no image has."""
    distinct = set(labels)
    if all(label.isascii() and label.isdigit() and len(label) < 7 for label in distinct):
        names = tuple(str(number) for number in range(max(map(int, distinct)) + 1))
        if not distinct <= set(names):
            raise DataError(
                f"{name} writes the label {min(distinct - set(names))!r} with leading zeros; write plain numbers."
            )
    else:
        names = tuple(sorted(distinct))
    if len(names) < 2:
        raise DataError(f"{name} holds the single label {names[0]!r}; at least two classes were expected.")
    return names


def _split_of(line: _Line, name: str) -> str:
    split = split_of(line.split) if line.split.strip() else "test"
    if split is None:
        raise DataError(
            f"{name}, line {line.number}: the split {printable(line.split)!r} is unknown; train, test or validation "
            "was expected."
        )
    return split
