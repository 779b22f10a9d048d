"""`audit list`: the runs under a folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from audit.cli.options import Runs, command
from audit.cli.terminal import Terminal

if TYPE_CHECKING:
    from audit.report.history import RunRow

_HEAD = ("begun (UTC)", "verdict", "failed", "clean", "robust", "model", "data", "run")


@command()
def list_runs(
    terminal: Terminal,
    folder: Runs = Path(),
    last: Annotated[int | None, typer.Option("--last", min=1, help="Only this many, the newest.")] = None,
) -> None:
    """List the runs under a folder, the newest last: verdict, accuracy and robust accuracy of the audited model.

    An index in that folder, .audit-index.json, is brought up to date; only new and changed runs are read.

    [bold]Examples[/]

      audit list

      audit list runs --last 20 --json
    """
    from dataclasses import asdict

    from audit.report.history import history

    recorded = history(folder)
    rows = recorded.rows[-last:] if last else recorded.rows

    def show() -> None:
        for line in _lines(rows):
            print(line)
        if not rows:
            terminal.info(f"No runs under {folder}. `audit run` makes one.")

    runs = [asdict(row) for row in rows] if terminal.as_json else []
    terminal.emit({"runs": runs, "total": len(recorded.rows), "read": recorded.read}, show)


def _lines(rows: Sequence[RunRow]) -> list[str]:
    """A table in plain text: quick for thousands of rows."""
    table = [_HEAD, *(_cells(row) for row in rows)]
    widths = [max(len(line[column]) for line in table) for column in range(len(_HEAD))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in table]


def _cells(row: RunRow) -> tuple[str, ...]:
    from audit.document.sanitise import visible

    if row.problem:
        return (_minute(row.begun), "unreadable", "", "", "", "", "", visible(row.path))
    counted = f"{row.failed} of {row.findings}" if row.complete else "incomplete"
    cells = (_minute(row.begun), row.verdict, counted, _share(row, "clean"), _share(row, "robust"))
    return (*cells, *(visible(text) for text in (row.architecture, row.data, row.path)))


def _minute(begun: str) -> str:
    """The time in ISO 8601, to the minute and with a space."""
    return begun[:16].replace("T", " ")


def _share(row: RunRow, quantity: str) -> str:
    """The audited model's, which stands first: a share, or the mAP of a detector."""
    level = next((level for level in row.levels if level.quantity == quantity), None)
    if level is None:
        return "-"
    return f"mAP {level.estimate:.3f}" if level.measure == "map" else f"{level.estimate:.1%}"
