"""The tables beside the pictures of a folder, on disk or in an archive: what they say of each."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from audit.core.errors import DataError
from audit.core.note import Note
from audit.data.cohorts import METADATA, Cells, group_columns, is_metadata, unread_note
from audit.data.folder_layout import FolderLayout
from audit.data.relative_paths import relative_path
from audit.data.table_columns import PATH_COLUMNS, optional_column
from audit.data.text_tables import TextTable


@dataclass(frozen=True)
class FolderMetadata:
    """What the tables of a folder say.

    Attributes:
        paths: The picture of each row of all tables.
        columns: By name, the cells of each row, None where its table lacks the column.
        used: The paths of the tables.
        notes: Which tables cannot be read.
    """

    paths: tuple[str, ...]
    columns: Mapping[str, Sequence[object]]
    used: frozenset[str]
    notes: tuple[Note, ...]

    def beside(self, layout: FolderLayout) -> tuple[Cells, tuple[Note, ...]]:
        """The columns that make groups of the pictures of a layout, and what is to be said.

        Args:
            layout: The folders read as a data set, without the tables.
        """
        inside = [path[len(layout.base) :] for path in self.paths]
        labels = {file.name: file.label for files in layout.files_by_split.values() for file in files}
        cells, notes = group_columns(inside, self.columns.items(), labels, METADATA[0])
        return cells, (*self.notes, *notes)


def folder_metadata(entries: Sequence[str], table_of: Callable[[str], TextTable]) -> FolderMetadata:
    """Read the tables among the files of a folder that name pictures of it.

    Args:
        entries: The paths of its files, with forward slashes.
        table_of: Reads one of them as a table; raises DataError.
    """
    rows: list[tuple[str, dict[str, object]]] = []
    used, notes, pictures = set[str](), list[Note](), frozenset(entries)
    for entry in filter(is_metadata, entries):
        folder = PurePosixPath(entry).parent
        try:
            table = table_of(entry)
            column = optional_column("path", None, PATH_COLUMNS, table)
        except DataError as fault:
            notes.append(unread_note(entry, fault))
            continue
        if column is None:
            continue
        paths = [relative_path(f"{folder}/{cell}") or "" for cell in table.column(column)]
        if not pictures & set(paths):
            continue
        used.add(entry)
        rest = [(name, position) for position, name in enumerate(table.columns) if name != column and name.strip()]
        rows += [
            (path, {name: row[position] for name, position in rest})
            for path, row in zip(paths, table.rows, strict=True)
        ]
    names = dict.fromkeys(name for _, cells in rows for name in cells)
    columns = {name: [cells.get(name) for _, cells in rows] for name in names}
    return FolderMetadata(tuple(path for path, _ in rows), columns, frozenset(used), tuple(notes))
