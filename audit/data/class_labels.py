"""From what stands as a label in a table, a list or an array to class numbers and names: one function for all."""

from __future__ import annotations

import math
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from audit.core.errors import DataError
from audit.core.note import Note, note
from audit.data.image_survey import printable

MISSING = -1
"""The number of a label that is not there."""
_MISSING_TEXTS = frozenset(
    (
        *("", "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN", "<NA>", "N/A"),
        *("NA", "NULL", "NaN", "None", "n/a", "nan", "null", "NaT"),
    )
)
"""What pandas reads as missing, unless it is told otherwise."""
_MOST_CLASSES = 1_000_000
_FEW = 12


@dataclass(frozen=True)
class ClassLabels:
    """Labels as classes.

    Attributes:
        classes: Class names in label order.
        numbers: The class of each value, from 0; `MISSING` where there is none.
        notes: What is to be said of them.
    """

    classes: tuple[str, ...]
    numbers: tuple[int, ...]
    notes: tuple[Note, ...] = ()


def class_labels(
    values: Sequence[Any],
    source: str,
    *,
    names: tuple[str, ...] = (),
    strict: bool = False,
    place: Callable[[int], str] | None = None,
) -> ClassLabels:
    """The classes that labels of any spelling name.

    Whole numbers are class numbers, however they are written: 3, "3", " 003 ", 3.0. They count from 0, or from 1 where
    1 is the lowest. Anything else is a name; names are sorted, numbers among them by value. What pandas reads as
    missing, and -1 beside other numbers, is no label.

    Args:
        values: A label for each example: texts, numbers, truth values or None.
        source: What they are read from, for errors.
        names: The names of the classes where the source lists them; numbers then count them from 0.
        strict: Raise an error for a missing label.
        place: Where a value stands, for errors, by its position; the source and the row by default.

    Raises:
        DataError: Every label is missing, or one is no class; or `strict` and one is missing.
    """
    where = place or (lambda row: f"{source}, row {row}")
    cells = [_value(value, row, where) for row, value in enumerate(values)]
    distinct = set(cells)
    texts = {cell for cell in distinct if isinstance(cell, str)}
    if None not in distinct and distinct == {-1, 1}:
        cells = [str(cell) for cell in cells]
        distinct, texts = set(cells), {"-1", "1"}
    _require_single(texts, source)
    whole = all(cell is None or isinstance(cell, int) for cell in distinct)
    missing = sum(cell is None or (whole and cell == MISSING) for cell in cells)
    if missing == len(cells):
        raise DataError(
            f"{source} has no label that names a class ({len(cells)} are missing); at least two classes were expected. "
            "A test part without labels cannot be audited: keep the validation part alone."
        )
    skipped = _skipped(missing, len(cells), source, strict=strict)
    if names and texts:
        found = _among_names(cells, names, where)
    elif whole:
        found = _counted(cells, names, where)
    else:
        found = _named(cells)
    skipped += tuple(_each_its_own(len(cells) - missing, len(distinct - {None})))
    return ClassLabels(found.classes, found.numbers, (*skipped, *found.notes))


def one_hot_labels(
    columns: Sequence[str], rows: Sequence[Sequence[Any]], source: str, *, strict: bool = False
) -> ClassLabels:
    """The classes of rows that hold a 1 in the column of their class and 0 in every other.

    Args:
        columns: The names of the classes.
        rows: The cells of each row.
        source: What they are read from, for errors.
        strict: Raise an error for a row without a 1.

    Raises:
        DataError: A row has several ones: an image of several classes; or `strict` and a row has none.
    """
    numbers = [[position for position, cell in enumerate(row) if _flag(cell) == 1] for row in rows]
    several = next((row for row, ones in enumerate(numbers) if len(ones) > 1), None)
    if several is not None:
        listed = " and ".join(repr(columns[i]) for i in numbers[several][:3])
        raise DataError(
            f"{source} gives image {several + 1} the classes {listed}; one class an image was expected. Audits of "
            "images with several classes are not made here: keep one label column and name it with --label-column."
        )
    missing = sum(not ones for ones in numbers)
    skipped = _skipped(missing, len(rows), source, strict=strict)
    read = note("data_one_hot", "The label is the column that holds a 1: {listed}.", listed=", ".join(columns[:6]))
    labels = tuple(ones[0] if ones else MISSING for ones in numbers)
    return ClassLabels(tuple(columns), labels, (read, *skipped))


def _skipped(missing: int, count: int, source: str, *, strict: bool) -> tuple[Note, ...]:
    if not missing:
        return ()
    if strict:
        raise DataError(f"{missing} of {count} labels of {source} are missing, and --strict makes that an error.")
    return (
        note("data_unlabelled", "Images without a label were skipped: {count} of {all}.", count=missing, all=count),
    )


def is_flag(cells: Sequence[Any]) -> bool:
    """Whether a column holds nothing but 0 and 1.

    Args:
        cells: Its cells.
    """
    return all(_flag(cell) in (0, 1) for cell in set(map(str, cells)))


def _flag(cell: Any) -> int | float | None:
    return _number(str(cell).strip())


def _value(value: Any, row: int, where: Callable[[int], str]) -> int | float | str | None:
    """A label as None, a whole number, another number, or a name."""
    if hasattr(value, "item"):  # a number of numpy
        value = value.item()
    if isinstance(value, bytes):
        value = value.decode("utf-8", "backslashreplace")
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return None
    if isinstance(value, bool):
        return str(value)
    if isinstance(value, (int, float)):
        return int(value) if value == value // 1 and abs(value) < 1e15 else float(value)
    if not isinstance(value, str):
        raise DataError(
            f"{where(row)}: the label {str(value)[:40]!r} is a {type(value).__name__}; a name or a number, one class "
            "an image, was expected."
        )
    text = unicodedata.normalize("NFC", value.strip())
    if text in _MISSING_TEXTS:
        return None
    number = _number(text)
    return text if number is None else number


def _number(text: str) -> int | float | None:
    """The number that a text is, None for any other text, and for what no program writes as a class number."""
    body = text.strip().lstrip("+-")
    if not body.isascii() or not body.replace(".", "", 1).replace("e+", "", 1).isdigit() or len(body) > 24:
        return None
    try:
        number = float(text)
    except ValueError:
        return None
    return int(number) if number == number // 1 and abs(number) < 1e15 else number


def _counted(cells: Sequence[Any], names: tuple[str, ...], where: Callable[[int], str]) -> ClassLabels:
    """Whole numbers as class numbers; those that no image has lie between them."""
    numbers = [MISSING if cell is None else cell for cell in cells]
    present = set(numbers) - {MISSING}
    lowest, highest = min(present), max(present)
    if lowest < 0:
        raise DataError(
            f"{where(numbers.index(lowest))}: the label {lowest} is negative; whole numbers from 0, or names, were "
            "expected."
        )
    if names:
        if highest >= len(names):
            raise DataError(
                f"{where(numbers.index(highest))}: the label is {highest}; 0 to {len(names) - 1} was expected, as "
                f"{len(names)} classes are listed."
            )
        return ClassLabels(names, tuple(numbers))
    if highest >= _MOST_CLASSES:
        return _named([None if cell == MISSING else cell for cell in numbers])
    if lowest == 1 and highest > 1:
        classes = tuple(map(str, range(1, highest + 1)))
        first = note(
            "data_from_one",
            "The labels count from 1: class '1' is taken for the model's first output, '{last}' for its last.",
            last=highest,
        )
        return ClassLabels(
            classes, tuple(n - 1 if n != MISSING else n for n in numbers), (first, *_gaps(present, classes))
        )
    classes = tuple(map(str, range(highest + 1)))
    return ClassLabels(classes, tuple(numbers), tuple(_gaps(present, classes)))


def _each_its_own(images: int, labels: int) -> Iterator[Note]:
    if images == labels > _FEW:
        yield note(
            "data_each_its_own",
            "Every image has a label of its own ({count}): is it the column of the classes?",
            count=labels,
        )


def _gaps(present: set[int], classes: tuple[str, ...]) -> Iterator[Note]:
    absent = [name for name in classes if int(name) not in present]
    if absent:
        listed = ", ".join(absent[:5])
        yield note("data_no_image", "Labels that no image has: {count} ({listed}).", listed=listed, count=len(absent))


def _named(cells: Sequence[Any]) -> ClassLabels:
    """Distinct labels as names: numbers first and by value, then texts."""
    distinct = {cell for cell in cells if cell is not None}
    ordered = sorted(distinct, key=lambda cell: (isinstance(cell, str), cell))
    numbers = {cell: number for number, cell in enumerate(ordered)}
    classes = tuple(printable(cell) if isinstance(cell, str) else str(cell) for cell in ordered)
    return ClassLabels(
        classes, tuple(MISSING if cell is None else numbers[cell] for cell in cells), tuple(alike_notes(classes))
    )


def _require_single(texts: set[str], source: str) -> None:
    """Raises DataError where labels such as "cat|dog" beside "cat" give an image several classes."""
    joined = {text: [part.strip() for part in text.split("|")] for text in texts if "|" in text}
    parts = Counter(part for several in joined.values() for part in several)
    text = next((t for t, several in joined.items() if any(p in texts or parts[p] > 1 for p in several)), None)
    if text is not None:
        raise DataError(
            f"{source} has the label {printable(text)[:60]!r}, several classes at once; one class an image was "
            "expected. Keep the images of one class, or write the class to be told into a column of its own."
        )


def alike_notes(classes: Sequence[str]) -> Iterator[Note]:
    """Names that differ in case or spaces alone are seldom two classes, and one word among numbers is seldom a class.

    Args:
        classes: The names.
    """
    words = [name for name in classes if _number(name) is None]
    if 0 < len(words) < len(classes) - len(words):
        yield note(
            "data_mixed_labels",
            "Labels are numbers but for {listed}, so that all of them are taken for names: remove those rows where "
            "they are no classes.",
            listed=", ".join(words[:4]),
        )
    counts = Counter(name.strip().casefold() for name in classes)
    alike = [name for name in classes if counts[name.strip().casefold()] > 1]
    if alike:
        yield note(
            "data_case",
            "Class names differ in case alone and are taken for different classes: {listed}. If they are one, write "
            "them alike.",
            listed=", ".join(alike[:6]),
        )


def _among_names(cells: Sequence[Any], names: tuple[str, ...], where: Callable[[int], str]) -> ClassLabels:
    """Labels that are names of classes which the source lists."""
    by_name = {name: number for number, name in enumerate(names)}
    unknown = next((row for row, cell in enumerate(cells) if cell is not None and str(cell) not in by_name), None)
    if unknown is not None:
        raise DataError(
            f"{where(unknown)}: the label {printable(str(cells[unknown]))[:40]!r} is none of the classes that are "
            f"listed ({', '.join(names[:6])})."
        )
    return ClassLabels(names, tuple(MISSING if cell is None else by_name[str(cell)] for cell in cells))
