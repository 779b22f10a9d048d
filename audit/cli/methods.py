"""`audit methods`: everything the suite can do, with settings and sources."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from audit.cli.options import command
from audit.cli.terminal import Terminal


@command()
def methods(
    terminal: Terminal,
    kind: Annotated[
        str | None,
        typer.Argument(
            help="attack, attribution, corruption, metric, recipe, study, check, data-format or model-format."
        ),
    ] = None,
) -> None:
    """List the methods, their settings and the papers they come from.

    [bold]Examples[/]

      audit methods

      audit methods attack --json
    """
    from rich.markup import escape
    from rich.table import Table

    from audit.core.errors import unknown_name
    from audit.core.registry import KINDS, Method
    from audit.core.registry import methods as registered

    if kind is not None and kind not in KINDS:
        raise unknown_name("kind of method", kind, KINDS)
    listed: list[Method] = [m for name in KINDS if kind in (None, name) for m in registered(name)]
    rows: list[dict[str, Any]] = [
        {
            "kind": method.kind,
            "name": method.name,
            "summary": method.summary,
            "settings": {name: repr(value) for name, value in method.defaults.items()},
            "reference": method.reference,
            "version": method.full_version,
        }
        for method in listed
    ]

    def show() -> None:
        table = Table("kind", "name", "what", "settings", "source", box=None, header_style="bold")
        for row in rows:
            settings = ", ".join(f"{name}={value}" for name, value in row["settings"].items())
            table.add_row(row["kind"], row["name"], escape(row["summary"]), escape(settings), escape(row["reference"]))
        terminal.stdout.print(table)

    terminal.emit({"methods": rows}, show)
