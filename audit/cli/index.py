"""`audit index`: the runs under a folder as a page."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from audit.cli import options as flag
from audit.cli.terminal import command_context


def index(
    folder: flag.Runs = Path(),
    html: Annotated[
        Path | None, typer.Option("--html", help="Where the page goes.", show_default="FOLDER/index.html")
    ] = None,
    language: Annotated[str, typer.Option("--lang", help="en or zh.")] = "en",
    as_json: flag.AsJson = False,
    quiet: flag.Quiet = False,
    verbose: flag.Verbose = False,
    no_color: flag.NoColor = False,
) -> None:
    """Write the runs under a folder as one static page: trends with intervals, then every run with its verdict.

    The newest 200 runs are shown, each linked to its report.html. The page runs no script and asks nothing of any
    network.

    [bold]Examples[/]

      audit index

      audit index runs --html public/index.html --lang zh
    """
    with command_context(as_json=as_json, quiet=quiet, verbose=verbose, no_color=no_color) as voice:
        from importlib.metadata import version

        from audit.document.locale import load_locale
        from audit.report.history import history, links
        from audit.report.html import render_history
        from audit.storage.store import write_atomically

        load_locale(language)
        found, target = history(folder), html or folder / "index.html"
        page = render_history(
            found.rows, links=links(folder, found.rows, target.parent), language=language, version=version("audit")
        )
        write_atomically(target, page)
        written = {"written": {"html": str(target)}, "total": len(found.rows), "read": found.read}
        voice.give(written, lambda: voice.out.print(str(target), soft_wrap=True, markup=False))
