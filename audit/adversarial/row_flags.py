"""Red flags that only what the attacks did raises: over the images of all cells together, however these are cut."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from audit.adversarial.attack_result import AttackResult
from audit.adversarial.red_flags import RedFlag, flag_if_above
from audit.adversarial.thresholds import THRESHOLDS
from audit.core.note import NO_NOTE

CellRows = tuple[Sequence[AttackResult], int]
"""What each attack did to the images of a cell, and the number of these."""


def row_flags(cells: Sequence[CellRows]) -> tuple[RedFlag, ...]:
    """Why what a battery did is weak evidence; empty when it is not.

    Args:
        cells: Of each cell of one model, battery and threat model, the rows and the number of images.
    """
    flags = [*_beaten(cells), _none_ran(cells)]
    return tuple(flag for flag in flags if flag is not None)


def pooled_rows(cells: Sequence[CellRows]) -> tuple[tuple[AttackResult, int], ...]:
    """The rows of the same attack at the same eps as one, with the images of the cells in which it had its turn.

    Args:
        cells: As in `row_flags`.
    """
    pooled: dict[tuple[str, float | None], tuple[AttackResult, int]] = {}
    for rows, images in cells:
        for row in rows:
            earlier = pooled.get((row.name, row.eps))
            pooled[row.name, row.eps] = (
                (row, images) if earlier is None else (earlier[0].plus(row), earlier[1] + images)
            )
    return tuple(pooled.values())


def _beaten(cells: Sequence[CellRows]) -> Iterator[RedFlag | None]:
    """Attacks that see no gradient and yet break what every gradient attack before them left."""
    rows = pooled_rows(cells)
    guided = any(row.needs == "gradients" and row.tried for row, _ in rows)
    fewest = THRESHOLDS["gradient_free_breaks"].fewest
    for row, images in rows:
        if not guided or row.needs == "gradients" or not row.tried or row.broke < fewest:
            continue
        points = 100 * row.broke / row.tried * row.survivors / images
        yield flag_if_above(
            "gradient_free_breaks",
            points / 100,
            attack=row.name,
            broke=row.broke,
            tried=row.tried,
            points=f"{points:.1f}",
        )


def _none_ran(cells: Sequence[CellRows]) -> RedFlag | None:
    """Raised where every attack says why it did not run."""
    rows = [row for part, _ in cells for row in part]
    none = bool(rows) and all(row.reason for row in rows)
    return flag_if_above("no_attack_ran", float(none), reason=rows[0].reason if none else NO_NOTE)
