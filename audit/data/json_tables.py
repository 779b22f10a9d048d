"""Lists of images in JSON, in the forms that programs write: records of path and label."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import PurePosixPath
from typing import Any

from audit.core.errors import DataError
from audit.data.image_decoding import IMAGE_SUFFIXES
from audit.data.split_names import split_of


def json_records(content: Any, name: str) -> Iterator[Mapping[str, Any]]:
    """The records of a JSON document: an object with path and label an image.

    Args:
        content: A list of such objects or of pairs of path and label; an object from path to label, from class to
            paths, from the name of a column to its cells (as pandas writes tables), or from split to one of the lists.
        name: The file's name, for errors.

    Raises:
        DataError: It has none of these forms.
    """
    if isinstance(content, Mapping) and content:
        values = list(content.values())
        if len(content) == 1 and isinstance(values[0], list) and _is_list(values[0]):
            content = values[0] if split_of(str(next(iter(content)))) is None else content
    if isinstance(content, list) and _is_list(content):
        yield from map(_record, content)
    elif isinstance(content, Mapping) and content:
        yield from _of_object(content, name)
    else:
        raise _no_list(name)


def _of_object(content: Mapping[str, Any], name: str) -> Iterator[Mapping[str, Any]]:
    values = list(content.values())
    if all(split_of(key) and isinstance(rows, list) and _is_list(rows) for key, rows in content.items()):
        for split, rows in content.items():
            yield from ({"split": split, **_record(row)} for row in rows)
    elif not any(isinstance(value, (dict, list)) for value in values):
        yield from ({"path": path, "label": label} for path, label in content.items())
    elif all(isinstance(value, list) and value and all(map(_is_picture, value)) for value in values):
        yield from ({"path": path, "label": label} for label, paths in content.items() for path in paths)
    elif len({_keys(value) for value in values}) == 1 and len(values) > 1 and _keys(values[0]):
        for key in _keys(values[0]):
            yield {column: cells[key] for column, cells in content.items()}
    else:
        raise _no_list(name)


def _keys(cells: Any) -> tuple[Any, ...]:
    """What the cells of a column are counted by: positions, or the numbers of the rows as texts."""
    return tuple(range(len(cells))) if isinstance(cells, list) else tuple(cells) if isinstance(cells, dict) else ()


def _is_list(rows: list[Any]) -> bool:
    """Whether all are objects, or pairs of path and label, perhaps with more."""
    return all(isinstance(row, dict) for row in rows) or all(
        isinstance(row, list) and len(row) > 1 and _is_picture(row[0]) for row in rows
    )


def _record(row: Any) -> Mapping[str, Any]:
    return row if isinstance(row, dict) else {"path": row[0], "label": row[1]}


def _is_picture(value: Any) -> bool:
    return isinstance(value, str) and PurePosixPath(value).suffix.lower() in IMAGE_SUFFIXES


def _no_list(name: str) -> DataError:
    return DataError(
        f"{name}: a JSON list of objects with path and label, or an object from path to label, was expected."
    )
