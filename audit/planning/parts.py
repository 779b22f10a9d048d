"""Cells that are joined from parts: what a part is called among the inputs of the cell that joins them."""

from __future__ import annotations

from audit.core.cell import Cell

_PART = "part "


def part_input(first: int) -> str:
    """The name of a part among the inputs of the cell that joins it.

    Args:
        first: Position of the first thing that the part is about: of an image in the audit order, or of a class.
    """
    return f"{_PART}{first}"


def part_inputs(cell: Cell) -> tuple[str, ...]:
    """The names of the parts that a cell joins, in the order of what they are about; none of a cell that is whole.

    Args:
        cell: A cell whose parts are named by `part_input`.
    """
    return tuple(sorted((name for name in cell.inputs if name.startswith(_PART)), key=_first))


def _first(name: str) -> int:
    return int(name.removeprefix(_PART))
