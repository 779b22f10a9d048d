"""`audit report`: the renderings of a finished run, from its document alone."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from audit.cli import options as flag
from audit.cli.terminal import command_context


def report(
    run: flag.Run = Path("audit-run"),
    formats: Annotated[
        str, typer.Option("--format", help="Of html, junit, sarif, md, card; several with commas.")
    ] = "html",
    language: Annotated[str, typer.Option("--lang", help="en or zh: html, md and card.")] = "en",
    out: Annotated[
        Path | None, typer.Option("--out", help="A folder, or the file of one format; the run folder by default.")
    ] = None,
    detail: flag.Detail = None,
    images: flag.Images = None,
    as_json: flag.AsJson = False,
    quiet: flag.Quiet = False,
    verbose: flag.Verbose = False,
    no_color: flag.NoColor = False,
) -> None:
    """Render a finished run again from its audit.json: no model, no images, no torch.

    [bold]Examples[/]

      audit report

      audit report fashion --format html,junit,sarif,md,card --lang zh

      audit report --no-images --out public/report.html
    """
    with command_context(as_json=as_json, quiet=quiet, verbose=verbose, no_color=no_color) as voice:
        from audit.cli.documents import document_path
        from audit.document.locale import load_locale
        from audit.report.document import read_document
        from audit.report.formats import chosen, render
        from audit.report.gallery_size import at_detail, without_images
        from audit.storage.store import write_atomically
        from audit.topics.compression.section import read_latencies

        load_locale(language)
        wanted = chosen(formats)
        source = document_path(run)
        document = at_detail(read_document(source), detail)
        if images is False:
            document = without_images(document)
        latencies = read_latencies(source.with_name("timing.json"))
        written = {}
        for form in wanted:
            single = out is not None and len(wanted) == 1 and out.suffix != ""
            target = out if single and out is not None else (out or source.parent) / form.file
            write_atomically(target, render(document, form, language=language, latencies=latencies))
            written[form.name] = str(target)
        voice.give(
            {"written": written}, lambda: voice.out.print("\n".join(written.values()), soft_wrap=True, markup=False)
        )
