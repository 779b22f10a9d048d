"""The Parquet and Arrow files of a Hugging Face data set, read row by row with pyarrow: an image and a label each."""

from __future__ import annotations

import json
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from audit.core.errors import DataError, SetupError
from audit.data.cohorts import has_many_texts
from audit.data.dataset import NO_COLUMNS, Columns
from audit.data.image_survey import printable
from audit.data.other_files import other_kind
from audit.data.table_columns import column_of, optional_column

TABLE_SUFFIXES = (".parquet", ".arrow")
_IMAGES = ("image", "img", "picture", "pixel_values", "jpg", "png")
_LABELS = ("label", "labels", "class", "target", "cls")
_CACHE = 256 << 20
"""Most bytes of decoded row groups held in memory."""


@dataclass
class Table:
    """One Parquet or Arrow file.

    Attributes:
        path: The file; ".parquet" is read as Parquet, anything else as Arrow.
        cache: Holds the row groups decoded last, shared by the files of a data set.
        chosen: The columns that the configuration names.
        image: The column of images.
        label: The column of labels.
        names: Class names in label order; empty where the file has none.
        scalars: The other columns, each of one number, truth value or text a row.
        nested: Those of anything else, such as further images and lists.
    """

    path: Path
    cache: Cache
    chosen: Columns = NO_COLUMNS
    image: str = field(init=False)
    label: str = field(init=False)
    names: tuple[str, ...] = field(init=False)
    scalars: tuple[str, ...] = field(init=False)
    nested: tuple[str, ...] = field(init=False)
    _value_names: Mapping[str, tuple[str, ...]] = field(init=False)

    def __post_init__(self) -> None:
        schema = self._guarded(lambda: self.source.schema)
        features = _features(schema)
        columns = _TableColumns(printable(self.path.name), tuple(schema.names))
        self.image = _column("path", self.chosen.path, features.get("Image", ()), _IMAGES, columns)
        self.label = _column("label", self.chosen.label, features.get("ClassLabel", ()), _LABELS, columns)
        self._value_names = features.get("names", {})
        self.names = self._value_names.get(self.label, ())
        rest = [column for column in schema.names if column not in (self.image, self.label)]
        self.scalars = tuple(column for column in rest if _is_scalar(schema.field(column).type))
        self.nested = tuple(column for column in rest if column not in self.scalars)

    @cached_property
    def source(self) -> Any:
        """The open file: `schema`, `groups`, `rows(group)` and `read(group, column)`."""
        return _Parquet(self.path) if self.path.suffix == ".parquet" else _Arrow(self.path)

    def labels(self) -> list[Any]:
        """The label of each row, None where there is none."""
        return self._labels

    @cached_property
    def _labels(self) -> list[Any]:
        return self._cells(self.label)

    def values(self, column: str) -> list[Any]:
        """The cell of each row, the name of its value where the file has one; None where there is none.

        Args:
            column: A column; one that the file lacks has no cells.
        """
        if column not in self.scalars:
            return [None] * len(self._labels)
        names, cells = self._value_names.get(column, ()), self._cells(column)
        if not names:
            return cells
        return [names[cell] if isinstance(cell, int) and 0 <= cell < len(names) else cell for cell in cells]

    def is_free_text(self, column: str) -> bool:
        """Whether the first rows of a column hold more different texts than groups have; the others are not read.

        Args:
            column: A column; one that the file lacks is not.
        """
        if column not in self.scalars or not self.source.groups:
            return False
        cells = self._guarded(lambda: self.source.read(0, column).to_pylist())
        return has_many_texts(cells)

    def _cells(self, column: str) -> list[Any]:
        groups = self._guarded(lambda: [self.source.read(g, column).to_pylist() for g in range(self.source.groups)])
        return [cell for group in groups for cell in group]

    def image_bytes(self, row: int) -> bytes:
        """The encoded image of a row.

        Args:
            row: The row's number in the file, from 0.

        Raises:
            OSError: When the row group is damaged or the cell holds no bytes.
        """
        group = int(np.searchsorted(self._starts, row, side="right")) - 1
        cell = self.cache.column(self, group)[row - int(self._starts[group])].as_py()
        body = cell.get("bytes") if isinstance(cell, Mapping) else cell
        if isinstance(body, str):
            raise OSError(0, "the table holds a path for it, not the picture; save the table as CSV: manifest:FILE", "")
        if not isinstance(body, bytes):
            raise OSError(0, "the table holds no bytes for it", "")
        return body

    @cached_property
    def _starts(self) -> Any:
        counts = [self.source.rows(group) for group in range(self.source.groups)]
        return np.concatenate([[0], np.cumsum(counts)[:-1]]).astype(np.int64)

    def _guarded(self, read: Callable[[], Any]) -> Any:
        try:
            return read()
        except (DataError, SetupError):
            raise
        except Exception as fault:  # pyarrow has a type for each way to be damaged
            kind = other_kind(self.path)
            if kind and "table" not in kind:
                raise DataError(f"{printable(self.path.name)} {kind}.") from fault
            line = (str(fault).strip().split("\n", 1)[0] or type(fault).__name__)[:120].rstrip(". ")
            raise DataError(
                f"{printable(self.path.name)} is cut short or damaged ({line}); copy or download it again."
            ) from fault


class Cache:
    """The image columns decoded last, at most `_CACHE` bytes of them; several threads may call it."""

    def __init__(self) -> None:
        self._columns: OrderedDict[tuple[Path, int], Any] = OrderedDict()
        self._lock = threading.Lock()

    def column(self, table: Table, group: int) -> Any:
        """The image column of a row group, decoded when it is not held.

        Args:
            table: The file.
            group: Number of the row group.

        Raises:
            OSError: When the row group is damaged.
        """
        key = (table.path, group)
        with self._lock:
            if key not in self._columns:
                self._columns[key] = self._read(table, group)
            self._columns.move_to_end(key)
            while len(self._columns) > 1 and sum(column.nbytes for column in self._columns.values()) > _CACHE:
                self._columns.popitem(last=False)
            return self._columns[key]

    @staticmethod
    def _read(table: Table, group: int) -> Any:
        try:
            return table.source.read(group, table.image)
        except Exception as fault:  # as above; the picture is skipped and listed
            raise OSError(0, f"its table is damaged: {fault}"[:120]) from fault


class _Parquet:
    def __init__(self, path: Path) -> None:
        self._file = _pyarrow("pyarrow.parquet").ParquetFile(path)
        self.schema = self._file.schema_arrow
        self.groups = self._file.num_row_groups

    def rows(self, group: int) -> int:
        return int(self._file.metadata.row_group(group).num_rows)

    def read(self, group: int, column: str) -> Any:
        return self._file.read_row_group(group, columns=[column], use_threads=False).column(0)


class _Arrow:
    """A memory-mapped stream (as save_to_disk writes it) or file of record batches, checked before use."""

    def __init__(self, path: Path) -> None:
        pyarrow = _pyarrow("pyarrow")
        ipc = _pyarrow("pyarrow.ipc")
        mapped = pyarrow.memory_map(str(path))
        magic = mapped.read(6)
        mapped.seek(0)
        if magic == b"ARROW1":
            reader = ipc.open_file(mapped)
            self._batches = [reader.get_batch(i) for i in range(reader.num_record_batches)]
        else:
            reader = ipc.open_stream(mapped)
            self._batches = list(reader)
        self.schema = reader.schema
        self.groups = len(self._batches)
        for batch in self._batches:
            batch.validate(full=True)

    def rows(self, group: int) -> int:
        return int(self._batches[group].num_rows)

    def read(self, group: int, column: str) -> Any:
        return self._batches[group].column(column)


def _pyarrow(name: str) -> Any:
    try:
        return import_module(name)
    except ImportError as fault:
        raise SetupError("hf:DIR data needs pyarrow; install it with pip install 'audit[hf]'.") from fault


def _is_scalar(kind: Any) -> bool:
    types = _pyarrow("pyarrow").types
    kind = kind.value_type if types.is_dictionary(kind) else kind
    checks = (types.is_boolean, types.is_integer, types.is_floating, types.is_string, types.is_large_string)
    return any(check(kind) for check in checks)


def _features(schema: Any) -> dict[str, Any]:
    """Columns by their Hugging Face type, and the class names of each label column; empty without that metadata."""
    try:
        features = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
        kinds = {column: kind for column, kind in features.items() if isinstance(kind, dict) and column in schema.names}
    except (KeyError, ValueError, TypeError, AttributeError, RecursionError):
        return {}
    named = {column: tuple(map(str, kind["names"])) for column, kind in kinds.items() if _lists_names(kind)}
    by_type = {
        kind_name: tuple(column for column, kind in kinds.items() if kind.get("_type") == kind_name)
        for kind_name in ("Image", "ClassLabel")
    }
    return {**by_type, "names": named}


def _lists_names(kind: Mapping[str, Any]) -> bool:
    return kind.get("_type") == "ClassLabel" and isinstance(kind.get("names"), list)


@dataclass(frozen=True)
class _TableColumns:
    name: str
    columns: tuple[str, ...]


def _column(what: str, chosen: str | None, typed: Sequence[str], usual: Sequence[str], table: _TableColumns) -> str:
    """The chosen column, else that of a usual name, else the only one of the type."""
    column = optional_column(what, chosen, usual, table)
    if column is None and len(typed) == 1:
        return typed[0]
    if column is None and len(typed) > 1:
        raise DataError(
            f"{table.name} has {len(typed)} columns that could hold the {what}s: "
            f"{', '.join(map(printable, typed[:8]))}. Choose one with --{what}-column NAME."
        )
    return column or column_of(what, chosen, usual, table)
