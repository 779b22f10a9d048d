"""Tables that hold no paths of pictures but their pixels or nothing but labels, which a sentence says."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from audit.core.errors import DataError

_FEWEST = 48
"""Numbers from which on they are pixels: 4 x 4 of three colours; digits of 8 x 8 have 64."""


def require_no_pixels(rows: Sequence[Sequence[Any]], name: str) -> None:
    """Refuse rows that have no column of paths because they hold something else.

    Args:
        rows: The cells of the rows; a header is text, and so is none of what is looked for.
        name: The file's name, for errors.

    Raises:
        DataError: A row is the pixels of an image, or each is a class number alone.
    """
    if any(_is_pixels(row) for row in rows):
        raise DataError(
            f"{name} holds the pixels of an image in each row, where paths of pictures were expected. Save the pixels "
            "as an array (N, H, W) or (N, H, W, C) with numpy.savez, as x_test beside y_test, and give npz:FILE.npz."
        )
    if rows and all(len(row) == 1 and _is_number(row[0]) for row in rows):
        raise DataError(
            f"{name} holds a number a line, where the path of a picture and its label were expected. Write both into "
            "a table, as path,label; which picture each line means, and how the numbers count the classes, is for its "
            "source to say."
        )


def _is_pixels(row: Sequence[Any]) -> bool:
    """Whether all cells are numbers, or one cell holds many: as MNIST and FER-2013 come in CSV."""
    return (len(row) > _FEWEST and all(map(_is_number, row))) or any(
        len(numbers := str(cell).split()) > _FEWEST and all(map(_is_number, numbers)) for cell in row
    )


def _is_number(cell: Any) -> bool:
    return str(cell).strip().replace(".", "", 1).isdigit()
