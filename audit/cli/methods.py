"""`audit methods`: everything the suite can do, with settings and sources."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from audit.cli import options as flag
from audit.cli.terminal import command_context


def methods(
    kind: Annotated[
        str | None,
        typer.Argument(
            help="attack, attribution, corruption, metric, recipe, study, check, data-format or model-format."
        ),
    ] = None,
    as_json: flag.AsJson = False,
    quiet: flag.Quiet = False,
    verbose: flag.Verbose = False,
    no_color: flag.NoColor = False,
) -> None:
    """List the methods, their settings and the papers they come from.

    [bold]Examples[/]

      audit methods

      audit methods attack --json
    """
    with command_context(as_json=as_json, quiet=quiet, verbose=verbose, no_color=no_color) as voice:
        from rich.markup import escape
        from rich.table import Table

        from audit.core.errors import unknown_name
        from audit.core.registry import PACKAGES, Method
        from audit.core.registry import methods as registered

        if kind is not None and kind not in PACKAGES:
            raise unknown_name("kind of method", kind, PACKAGES)
        found: list[Method] = [one for room in PACKAGES if kind in (None, room) for one in registered(room)]
        rows: list[dict[str, Any]] = [
            {
                "kind": one.kind,
                "name": one.name,
                "summary": one.summary,
                "settings": {name: repr(value) for name, value in one.defaults.items()},
                "reference": one.reference,
                "version": one.full_version,
            }
            for one in found
        ]

        def show() -> None:
            table = Table("kind", "name", "what", "settings", "source", box=None, header_style="bold")
            for row in rows:
                settings = ", ".join(f"{name}={value}" for name, value in row["settings"].items())
                table.add_row(
                    row["kind"], row["name"], escape(row["summary"]), escape(settings), escape(row["reference"])
                )
            voice.out.print(table)

        voice.give({"methods": rows}, show)
