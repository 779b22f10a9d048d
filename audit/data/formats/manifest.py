"""A manifest of images, CSV or JSON Lines: a path and a label each, perhaps a split and a mask."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from audit.core.errors import DataError
from audit.core.note import Note, note
from audit.core.registry import data_format
from audit.data.class_labels import MISSING, ClassLabels, class_labels, is_flag, one_hot_labels
from audit.data.cohorts import group_columns
from audit.data.dataset import Columns, Dataset, LoadOptions
from audit.data.image_files import image_file_dataset, reader_below
from audit.data.image_survey import ImageFile, printable
from audit.data.named_files import NamedFiles
from audit.data.pixel_tables import require_no_pixels
from audit.data.split_names import split_of
from audit.data.table_columns import PATH_COLUMNS, column_of, is_usual, optional_column
from audit.data.text_tables import TextTable, read_text_table

_LABEL = ("label", "class", "target", "category", "class_name", "labels", "class_id", "label_id", "category_id",
          "class_label", "label_name", "diagnosis", "dx", "breed", "species", "level")  # fmt: skip
_SPLIT = ("split", "part", "subset", "set", "partition", "data set", "usage", "phase")
_IN_TRAIN = ("is_train", "is_training", "is_training_image", "train")
_IN_TEST = ("is_test", "is_valid", "is_val", "is_validation")
_MASK = ("mask", "mask_path", "segmentation")


@data_format(argument="FILE", images=True, columns=True)
def manifest(source: str, options: LoadOptions) -> Dataset:
    """The images that a .csv, .tsv, .json, .jsonl or .ndjson file lists, perhaps with splits and masks.

    Columns `path` and `label` (a name, or a whole number), or in place of `label` a column of 0 and 1 for each class;
    optionally `split` (train, test, validation; without it everything is the test part) and `mask` (an image that is
    bright where the object is; attributions are then compared with it). Paths are relative to the manifest's folder.

    Args:
        source: The manifest's path.
        options: Size, colour and crop of the images, and the columns where they have other names.

    Raises:
        DataError: When the manifest is no such file, naming the line, or the images cannot be used.
    """
    path = Path(source)
    table = read_text_table(path)
    name = printable(path.name)
    if not table.rows:
        raise DataError(f"{name} names no images; a header and one line an image were expected.")
    chosen = options.columns
    split_column = optional_column("split", chosen.split, (*_SPLIT, *_IN_TRAIN, *_IN_TEST), table)
    mask_column = optional_column("mask", chosen.mask, _MASK, table)
    if optional_column("path", chosen.path, PATH_COLUMNS, table) is None:
        require_no_pixels(table.rows[:20], name)
    path_column = column_of("path", chosen.path, PATH_COLUMNS, table)
    labels = _labels(table, chosen, [path_column, split_column, mask_column], strict=options.strict)
    files, splits = NamedFiles(path.parent, name), _splits(table, split_column)
    paths = [_found(files, cell, "path", table.place(i)) for i, cell in enumerate(table.column(path_column))]
    masks = [
        _found(files, cell, "mask", table.place(i)) if cell not in (None, "") else ""
        for i, cell in enumerate(table.column(mask_column) if mask_column else [None] * len(paths))
    ]
    once = _once(paths, list(zip(labels.numbers, map(str, splits), strict=True)), table)
    files_by_split: dict[str, list[ImageFile]] = {}
    for row in once:
        if labels.numbers[row] != MISSING:
            split = _split(splits[row], table.place(row))
            files_by_split.setdefault(split, []).append(ImageFile(paths[row], labels.numbers[row], masks[row]))
    if len(labels.classes) < 2:
        raise DataError(f"{name} holds the single label {labels.classes[0]!r}; at least two classes were expected.")
    rest = [column for column in table.columns if column.strip()]
    rest = [column for column in rest if column not in (path_column, split_column, mask_column)]
    cells, said = group_columns(
        paths,
        ((column, table.column(column)) for column in rest),
        dict(zip(paths, labels.numbers, strict=True)),
        name,
    )
    notes = (*table.notes, *labels.notes, *files.notes(), *_repeated(len(paths) - len(once)), *_no_splits(splits))
    notes += said
    return image_file_dataset(
        reader_below(path.parent), name, labels.classes, files_by_split, options, notes, cells=cells
    )


def _labels(table: TextTable, chosen: Columns, taken: Sequence[str | None], *, strict: bool) -> ClassLabels:
    """The labels of the label column, or of columns that hold a 1 in that of the class."""
    rest = [name for name in table.columns if name not in taken]
    if optional_column("label", chosen.label, _LABEL, table) is None:
        flags = [name for name in rest if is_flag(table.column(name))]
        if len(flags) > 1:
            rows = list(zip(*map(table.column, flags), strict=True))
            return one_hot_labels(flags, rows, table.name, strict=strict)
    column = column_of("label", chosen.label, _LABEL, table)
    labels = class_labels(table.column(column), table.name, strict=strict, place=table.place)
    others = [name for name in rest if name != column and chosen.label is None and is_usual(name, _LABEL)]
    if not others:
        return labels
    said = note(
        "data_label_column",
        "The label is the column '{column}', and not {others}; --label-column chooses another.",
        column=printable(column),
        others=", ".join(printable(name) for name in others[:4]),
    )
    return replace(labels, notes=(*labels.notes, said))


def _found(files: NamedFiles, cell: object, what: str, place: str) -> str:
    if isinstance(cell, bool) or not isinstance(cell, (str, int)) or not str(cell).strip():
        raise DataError(f"{place}: no {what}; a column {what!r} with a value on every line was expected.")
    text = str(cell).strip()
    if not text.isascii() and any("\ud800" <= character <= "\udfff" for character in text):
        raise DataError(f"{place}: the {what} holds half a character; save the manifest as UTF-8.")
    return files.find(text, place)


def _once(paths: Sequence[str], said: Sequence[tuple[int, str]], table: TextTable) -> list[int]:
    """The first row of each image. Raises DataError where another row says otherwise of it."""
    first: dict[str, int] = {}
    for row, path in enumerate(paths):
        if said[first.setdefault(path, row)] != said[row]:
            raise DataError(
                f"{table.place(row)}: {printable(path)!r} is named on line {table.lines[first[path]]} already, with "
                "another label or split; name each image once."
            )
    return list(first.values())


def _splits(table: TextTable, column: str | None) -> Sequence[object]:
    """The split of each row as a word; that of is_train, is_valid and their like from what is true there."""
    cells = table.column(column) if column else [None] * len(table.rows)
    if column is None or not (is_usual(column, _IN_TRAIN) or is_usual(column, _IN_TEST)):
        return cells
    words = ("train", "test") if is_usual(column, _IN_TRAIN) else ("test", "train")
    return [words[0] if _is_true(cell) else words[1] if _is_false(cell) else cell for cell in cells]


def _is_true(cell: object) -> bool:
    return str(cell).strip().lower() in ("1", "1.0", "true", "yes")


def _is_false(cell: object) -> bool:
    return str(cell).strip().lower() in ("0", "0.0", "false", "no")


def _split(cell: object, place: str) -> str:
    text = "" if cell is None else str(cell).strip()
    split = split_of(text) if text else "test"
    if split is None:
        raise DataError(f"{place}: the split {printable(text)!r} is unknown; train, test or validation was expected.")
    return split


def _repeated(count: int) -> Iterator[Note]:
    if count:
        yield note("data_repeated", "Lines that repeat another were left out: {count}.", count=count)


def _no_splits(splits: Sequence[object]) -> Iterator[Note]:
    if not any(splits):
        yield note("data_manifest", "The manifest names no splits: every image is used to test.")
