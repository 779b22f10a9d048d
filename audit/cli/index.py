"""`audit index`: the runs under a folder as a page."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from audit.cli.options import Runs, command
from audit.cli.terminal import Terminal


@command()
def index(
    terminal: Terminal,
    folder: Runs = Path(),
    html: Annotated[
        Path | None, typer.Option("--html", help="Where the page goes.", show_default="FOLDER/index.html")
    ] = None,
    language: Annotated[str, typer.Option("--lang", help="en or zh.")] = "en",
) -> None:
    """Write the runs under a folder as one static page: trends with intervals, then every run with its verdict.

    The newest 200 runs are shown, each linked to its report.html. The page runs no script and asks nothing of any
    network.

    [bold]Examples[/]

      audit index

      audit index runs --html public/index.html --lang zh
    """
    from importlib.metadata import version

    from audit.document.locale import load_locale
    from audit.report.history import history, report_links
    from audit.report.html import render_history
    from audit.storage.store import write_atomically

    load_locale(language)
    runs, target = history(folder), html or folder / "index.html"
    page = render_history(
        runs.rows,
        links=report_links(folder, runs.rows, target.parent),
        language=language,
        version=version("audit"),
    )
    write_atomically(target, page, flag="--html")
    result = {"written": {"html": str(target)}, "total": len(runs.rows), "read": runs.read}
    terminal.emit(result, lambda: terminal.stdout.print(str(target), soft_wrap=True, markup=False))
