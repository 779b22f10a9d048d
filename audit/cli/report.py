"""`audit report`: the renderings of a finished run, from its document alone."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from audit.cli.options import Run, command
from audit.cli.terminal import Terminal, document_path

_STATED: Any = {"rich_help_panel": "What only people know", "show_default": False}


@command("report.images", "report.gallery")
def report(
    terminal: Terminal,
    overrides: dict[str, Any],
    run: Run = Path("audit-run"),
    formats: Annotated[
        str, typer.Option("--format", help="Of html, pdf, junit, sarif, md, card, bom; several with commas.")
    ] = "html",
    language: Annotated[str, typer.Option("--lang", help="en or zh: html, md and card.")] = "en",
    out: Annotated[
        Path | None, typer.Option("--out", help="A folder, or the file of one format; the run folder by default.")
    ] = None,
    license: Annotated[str, typer.Option("--license", help="SPDX name, for card and bom.", **_STATED)] = "",
    dataset: Annotated[
        list[str] | None,
        typer.Option("--dataset", help="What it was trained on, as the Hub names it. Repeatable.", **_STATED),
    ] = None,
    decision: Annotated[
        str, typer.Option("--decision", help="What was decided, for the sign-off of html, pdf and card.", **_STATED)
    ] = "",
    decided_by: Annotated[str, typer.Option("--decided-by", help="Who decided.", **_STATED)] = "",
    decided_on: Annotated[str, typer.Option("--decided-on", help="When.", **_STATED)] = "",
    policy: Annotated[
        Path | None, typer.Option("--policy", help="The policy it was held against; its hash is shown.", **_STATED)
    ] = None,
) -> None:
    """Render a finished run again from its audit.json: no model, no images, no torch.

    What only people know, such as the licence and the decision, is shown as the flags say it, and left out otherwise.

    [bold]Examples[/]

      audit report

      audit report fashion --format html,junit,sarif,md,card --lang zh

      audit report --format card,bom --license apache-2.0 --dataset zalando-datasets/fashion_mnist

      audit report --format pdf --decision "may ship" --decided-by "A. Smith" --policy policy.toml

      audit report --no-images --out public/report.html
    """
    from rich.markup import escape

    from audit.document.locale import load_locale
    from audit.report.document import read_document
    from audit.report.formats import parse_formats, render
    from audit.report.gallery_size import limit_gallery, without_images
    from audit.report.hand_over import HandOver, sign_off
    from audit.report.policy import load_policy
    from audit.storage.store import write_atomically
    from audit.topics.compression.section import read_latencies

    load_locale(language)
    forms = parse_formats(formats)
    source = document_path(run)
    settings = overrides.get("report", {})
    document = limit_gallery(read_document(source), settings.get("gallery"))
    if settings.get("images") is False:
        document = without_images(document)
    rules, rules_text = load_policy(policy) if policy else (None, "")
    signed = sign_off(
        read_document(source),
        decision,
        by=decided_by,
        on=decided_on,
        policy=rules,
        policy_name=policy.name if policy else "",
        policy_text=rules_text,
    )
    stated = HandOver(license, tuple(dataset or ()), signed)
    latencies = read_latencies(source.with_name("timing.json"))
    paths: dict[str, str] = {}
    faults: list[str] = []
    for form in forms:
        single = out is not None and len(forms) == 1 and out.suffix != ""
        target = out if single and out is not None else (out or source.parent) / form.file
        text = render(document, form, language=language, latencies=latencies, on_fault=faults.append, hand_over=stated)
        write_atomically(target, text, flag="--out")
        paths[form.name] = str(target)
    written = {"written": paths} | ({"faults": faults} if faults else {})
    terminal.emit(written, lambda: terminal.stdout.print("\n".join(paths.values()), soft_wrap=True, markup=False))
    for sentence in faults:
        terminal.stderr.print(f"[red]failed:[/] {escape(sentence)}", soft_wrap=True)
    if faults:
        raise typer.Exit(3)
