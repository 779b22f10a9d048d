"""`audit report`: the renderings of a finished run, from its document alone."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from audit.cli.options import Run, command
from audit.cli.terminal import Terminal, document_path


@command("report.images", "report.gallery")
def report(
    terminal: Terminal,
    overrides: dict[str, Any],
    run: Run = Path("audit-run"),
    formats: Annotated[
        str, typer.Option("--format", help="Of html, junit, sarif, md, card; several with commas.")
    ] = "html",
    language: Annotated[str, typer.Option("--lang", help="en or zh: html, md and card.")] = "en",
    out: Annotated[
        Path | None, typer.Option("--out", help="A folder, or the file of one format; the run folder by default.")
    ] = None,
) -> None:
    """Render a finished run again from its audit.json: no model, no images, no torch.

    [bold]Examples[/]

      audit report

      audit report fashion --format html,junit,sarif,md,card --lang zh

      audit report --no-images --out public/report.html
    """
    from rich.markup import escape

    from audit.document.locale import load_locale
    from audit.report.document import read_document
    from audit.report.formats import parse_formats, render
    from audit.report.gallery_size import limit_gallery, without_images
    from audit.storage.store import write_atomically
    from audit.topics.compression.section import read_latencies

    load_locale(language)
    forms = parse_formats(formats)
    source = document_path(run)
    settings = overrides.get("report", {})
    document = limit_gallery(read_document(source), settings.get("gallery"))
    if settings.get("images") is False:
        document = without_images(document)
    latencies = read_latencies(source.with_name("timing.json"))
    paths: dict[str, str] = {}
    faults: list[str] = []
    for form in forms:
        single = out is not None and len(forms) == 1 and out.suffix != ""
        target = out if single and out is not None else (out or source.parent) / form.file
        text = render(document, form, language=language, latencies=latencies, on_fault=faults.append)
        write_atomically(target, text, flag="--out")
        paths[form.name] = str(target)
    written = {"written": paths} | ({"faults": faults} if faults else {})
    terminal.emit(written, lambda: terminal.stdout.print("\n".join(paths.values()), soft_wrap=True, markup=False))
    for sentence in faults:
        terminal.stderr.print(f"[red]failed:[/] {escape(sentence)}", soft_wrap=True)
    if faults:
        raise typer.Exit(3)
