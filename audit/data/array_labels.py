"""From arrays of labels to class numbers and names: integers, floats, one-hot rows, texts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from audit.core.errors import DataError
from audit.core.note import Note, note
from audit.data.class_labels import class_labels


def array_labels(
    arrays: Sequence[NDArray[Any]], source: str, *, names: tuple[str, ...] = (), strict: bool = False
) -> tuple[tuple[str, ...], list[NDArray[np.int64]], tuple[Note, ...]]:
    """The classes that arrays of labels name, counted over all of them.

    Args:
        arrays: The labels of each part: numbers, truth values or texts (N,) or (N, 1), or one-hot rows (N, classes).
        source: What they are read from, for errors.
        names: The names of the classes where the source lists them.
        strict: Raise an error for a missing label.

    Returns:
        The class names in label order; for each array the class of each example, int64 (N,), -1 where there is none;
        and what is to be said of them.

    Raises:
        DataError: The labels are no classes, or fewer than two.
    """
    columns, read = _columns(arrays, source, names)
    names = names or (tuple(map(str, range(arrays[0].shape[1]))) if read else ())  # one-hot: a column is a class
    if any(column.dtype.kind == "f" and (column[np.isfinite(column)] % 1 != 0).any() for column in columns):
        raise DataError(
            f"{source} has labels that name no classes (numbers between whole ones); integers from 0 were expected."
        )
    labels = class_labels(
        [value for column in columns for value in column.tolist()], source, names=names, strict=strict
    )
    if len(labels.classes) < 2 or (not names and len(labels.classes) > 100_000):
        raise DataError(
            f"{source} has labels that name no classes ({len(labels.classes)} of them); at least two classes, and at "
            "most 100,000, were expected."
        )
    numbers = np.array(labels.numbers, dtype=np.int64)
    ends = np.cumsum([len(column) for column in columns])[:-1]
    return labels.classes, np.split(numbers, ends), (*read, *labels.notes)


def _columns(
    arrays: Sequence[NDArray[Any]], source: str, names: Sequence[str]
) -> tuple[list[NDArray[Any]], tuple[Note, ...]]:
    """The arrays with one label an example each, one-hot rows as the number of their 1."""
    flat = [array.reshape(-1) if array.ndim == 2 and array.shape[1] == 1 else array for array in arrays]
    if all(array.ndim == 1 and array.dtype.kind in "iufbUS" for array in flat):
        return flat, ()
    widths = {array.shape[1] if array.ndim == 2 else 0 for array in flat}
    hot = len(widths) == 1 and all(
        array.ndim == 2 and array.dtype.kind in "iufb" and ((array == 0) | (array == 1)).all() for array in flat
    )
    if hot and all((array.sum(1) == 1).all() for array in flat) and len(names) in (0, widths.pop()):
        said = note("data_one_hot_array", "Labels are rows with a 1 at the class: its position is the class number.")
        return [array.argmax(1) for array in flat], (said,)
    shapes = ", ".join(f"{array.shape} of {array.dtype}" for array in arrays)
    raise DataError(
        f"{source} has labels of shape {shapes}; one number or name an image was expected, or rows with a single 1 at "
        "the class. Images of several classes are not audited here."
    )
