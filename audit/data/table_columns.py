"""Which column of a table holds what: the one that is chosen, else the one of a usual name."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Protocol

from audit.core.errors import DataError, nearest
from audit.data.image_survey import printable

PATH_COLUMNS = ("path", "file", "filename", "file_name", "image", "image_path", "filepath", "image_name", "image_names",
                "images", "image_id", "img", "img_path", "img_name", "image index", "id_code", "filepaths", "paths",
                "filenames", "files", "id", "name")  # fmt: skip
"""Usual names of the column of pictures, the commonest first."""
_HOLDS = {"path": "images", "label": "labels", "split": "splits", "mask": "masks"}


class HasColumns(Protocol):
    """A table.

    Attributes:
        name: The file's name.
        columns: The names of its columns.
    """

    @property
    def name(self) -> str:
        """The file's name."""

    @property
    def columns(self) -> Sequence[str]:
        """The names of its columns."""


def column_of(what: str, chosen: str | None, usual: Sequence[str], table: HasColumns) -> str:
    """The column that holds something.

    Args:
        what: What it holds: "path", "label", "split", "mask".
        chosen: The column that the configuration names; None for none.
        usual: Usual names in lower case, the commonest first.
        table: The table.

    Raises:
        DataError: There is none, or not the chosen one; the sentence lists the columns.
    """
    column = optional_column(what, chosen, usual, table)
    if column is None:
        raise DataError(
            f"{table.name} has no column of {_HOLDS[what]}; {usual[0]!r} was expected, and the columns "
            f"are {_listed(table)}. Choose one with --{what}-column NAME."
        )
    return column


def optional_column(what: str, chosen: str | None, usual: Sequence[str], table: HasColumns) -> str | None:
    """The column that holds something; None where no column has a usual name.

    Args:
        what: As for `column_of`.
        chosen: As for `column_of`.
        usual: As for `column_of`.
        table: The table.

    Raises:
        DataError: There is no column of the chosen name; the sentence lists the columns.
    """
    if chosen is not None:
        exact = [column for column in table.columns if column == chosen]
        folded = [column for column in table.columns if _key(column) == _key(chosen)]
        if not exact and len(folded) != 1:
            raise DataError(
                f"{table.name} has no column {chosen!r} (--{what}-column); the columns are {_listed(table)}."
                f"{nearest(chosen, list(table.columns))}"
            )
        return (exact or folded)[0]
    by_key = {_key(column): column for column in reversed(table.columns)}
    return next((by_key[_key(name)] for name in usual if _key(name) in by_key), None)


def is_usual(column: str, usual: Sequence[str]) -> bool:
    """Whether a column has one of the usual names, however it is written.

    Args:
        column: The name of the column.
        usual: Usual names in lower case.
    """
    return _key(column) in map(_key, usual)


def _listed(table: HasColumns) -> str:
    more = f" and {len(table.columns) - 12} more" if len(table.columns) > 12 else ""
    return (", ".join(printable(column) for column in table.columns[:12]) or "none") + more


def _key(name: str) -> str:
    """Alike for "Image Index", "image_index" and "ImageIndex"."""
    return re.sub(r"[\W_]+", "", name.casefold())
