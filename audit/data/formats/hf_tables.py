"""The Parquet and Arrow files of a Hugging Face data set, read row by row with pyarrow: an image and a label each."""

from __future__ import annotations

import json
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from audit.core.errors import DataError, SetupError
from audit.data.image_survey import printable

TABLE_SUFFIXES = (".parquet", ".arrow")
_IMAGES = ("image", "img", "picture")
_LABELS = ("label", "labels", "class", "target")
_CACHE = 256 << 20
"""Most bytes of decoded row groups held in memory."""


@dataclass
class Table:
    """One Parquet or Arrow file.

    Attributes:
        path: The file; ".parquet" is read as Parquet, anything else as Arrow.
        cache: Holds the row groups decoded last, shared by the files of a data set.
        image: The column of images.
        label: The column of labels.
        names: Class names in label order; empty where the file has none.
    """

    path: Path
    cache: Cache
    image: str = field(init=False)
    label: str = field(init=False)
    names: tuple[str, ...] = field(init=False)

    def __post_init__(self) -> None:
        schema = self._guarded(lambda: self.source.schema)
        features = _features(schema)
        self.image = _column("images", features.get("Image", ()), _IMAGES, schema.names, self.path.name)
        self.label = _column("labels", features.get("ClassLabel", ()), _LABELS, schema.names, self.path.name)
        self.names = features.get("names", {}).get(self.label, ())

    @cached_property
    def source(self) -> Any:
        """The open file: `schema`, `groups`, `rows(group)` and `read(group, column)`."""
        return _Parquet(self.path) if self.path.suffix == ".parquet" else _Arrow(self.path)

    def labels(self) -> list[Any]:
        """The label of each row, None where there is none."""
        columns = self._guarded(
            lambda: [self.source.read(g, self.label).to_pylist() for g in range(self.source.groups)]
        )
        return [value for column in columns for value in column]

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


def _column(what: str, typed: Sequence[str], usual: Sequence[str], columns: Sequence[str], name: str) -> str:
    """The column of a usual name, else the only one of the type. Raises DataError that lists the columns."""
    for column in (*_first(usual, columns), *(typed if len(typed) == 1 else ())):
        return column
    raise DataError(
        f"{printable(name)} has no one column of {what}; the columns are "
        f"{', '.join(printable(column) for column in columns[:8]) or 'none'}. Name it {usual[0]!r}."
    )


def _first(usual: Sequence[str], columns: Sequence[str]) -> Iterator[str]:
    lowered = {column.lower(): column for column in columns}
    yield from (lowered[name] for name in usual if name in lowered)
