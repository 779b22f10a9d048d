"""`audit report`: the renderings of a finished run, from its document alone."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from audit.cli import options as flag
from audit.cli.voice import speaking


def report(
    run: Annotated[Path, typer.Argument(help="A run folder, or its audit.json.")] = Path("audit-run"),
    out: Annotated[Path | None, typer.Option("--out", help="Where to write; into the run folder by default.")] = None,
    language: Annotated[str, typer.Option("--lang", help="en or zh.")] = "en",
    as_json: flag.AsJson = False,
    quiet: flag.Quiet = False,
    verbose: flag.Verbose = False,
    no_color: flag.NoColor = False,
) -> None:
    """Render the report again from audit.json: no model, no images, no torch.

    [bold]Examples[/]

      audit report

      audit report fashion --lang zh --out fashion-zh.html
    """
    with speaking(as_json=as_json, quiet=quiet, verbose=verbose, no_color=no_color) as voice:
        from audit.report.document import read_document
        from audit.report.html import render_html
        from audit.report.locale import load_locale
        from audit.store import write_atomically

        load_locale(language)
        source = run / "audit.json" if run.is_dir() or not run.suffix else run
        target = out or source.parent / "report.html"
        write_atomically(target, render_html(read_document(source), language=language))
        voice.give({"report": str(target)}, lambda: voice.out.print(f"Report: {target}", soft_wrap=True))
