"""Cells that are joined from parts: the studies of parts, and what a part is called among the inputs of the joining
cell.

A part is a cell of a study of its own, so that whoever reads the evidence of a study meets whole cells alone.
"""

from __future__ import annotations

from audit.core.cell import Cell

_PART, _SUFFIX = "part ", "-part"


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
    return tuple(sorted(filter(_is_part, cell.inputs), key=_first))


def part_study(study: str) -> str:
    """The study of the parts of a study's cells.

    Args:
        study: Name of a study.
    """
    return study + _SUFFIX


def whole_study(study: str) -> str:
    """The study whose cells join those of a study, or the study itself.

    Args:
        study: Name of a study, of parts or not.
    """
    return study.removesuffix(_SUFFIX)


def is_part(cell: Cell) -> bool:
    """Whether a cell is a part.

    Args:
        cell: Any cell.
    """
    return cell.study.endswith(_SUFFIX)


def _is_part(name: str) -> bool:
    return name.startswith(_PART) and name.removeprefix(_PART).isdigit()


def _first(name: str) -> int:
    return int(name.removeprefix(_PART))
