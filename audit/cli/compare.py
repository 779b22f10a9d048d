"""`audit compare`: what changed from one run to another, example by example."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from audit.cli.options import command
from audit.cli.terminal import Terminal, document_path

if TYPE_CHECKING:
    from rich.table import Table

    from audit.report.run_comparison import RunComparison


@command()
def compare(
    terminal: Terminal,
    before: Annotated[Path, typer.Argument(help="A run folder, or its audit.json.")],
    after: Annotated[Path, typer.Argument(help="The run that came later, on the same data and seed.")],
    fail_on_regression: Annotated[
        bool, typer.Option("--fail-on-regression", help="Exit 1 when a quantity fell significantly.")
    ] = False,
    html: Annotated[Path | None, typer.Option("--html", help="Also write the comparison as a page here.")] = None,
    language: Annotated[str, typer.Option("--lang", help="en or zh, for the page.")] = "en",
) -> None:
    """Compare two finished runs on the same examples: paired tests, regressions first.

    [bold]Examples[/]

      audit compare monday tuesday

      audit compare main branch --fail-on-regression --json
    """
    from rich.markup import escape
    from rich.table import Table

    from audit.report.document import read_document
    from audit.report.html import render_comparison
    from audit.report.run_comparison import compare_documents
    from audit.storage.store import write_atomically

    first, second = (read_document(document_path(run)) for run in (before, after))
    comparison = compare_documents(first, second, names=(before.name, after.name))
    if html:
        write_atomically(html, render_comparison(comparison, language=language), flag="--html")

    def show() -> None:
        table = Table(
            "", "model", "quantity", before.name, after.name, "points", "broke", "mended", "p (Holm)", box=None
        )
        for change in comparison.changes:
            row = change.row
            table.add_row(
                "[red]worse[/]" if change.regressed else "",
                change.role,
                escape(row.quantity),
                f"{row.before.estimate:.1%}",
                f"{row.after.estimate:.1%}",
                f"{100 * row.difference:+.1f}",
                str(row.newly_wrong),
                str(row.newly_right),
                f"{change.adjusted_p:.2g}",
            )
        if comparison.changes or not comparison.precision:
            terminal.stdout.print(table)
        if comparison.precision:
            terminal.stdout.print(_precision_table(comparison))
        for verdict in comparison.verdicts:
            about = f" ({escape(verdict.about)})" if verdict.about else ""
            was, is_now = (value or "not run" for value in (verdict.before, verdict.after))
            terminal.stdout.print(f"{verdict.role}: {verdict.check}{about}: {was} -> {is_now}", soft_wrap=True)
        for remark in (*comparison.versions, *comparison.unpaired):
            terminal.stdout.print(f"[yellow]note:[/] {escape(str(remark))}", soft_wrap=True)
        if html:
            terminal.stdout.print(f"Written: {escape(str(html))}", soft_wrap=True)

    terminal.emit(comparison.model_dump(mode="json"), show)
    if fail_on_regression and comparison.fell:
        raise typer.Exit(1)


def _precision_table(comparison: RunComparison) -> Table:
    """mAP of detectors in both runs."""
    from rich.markup import escape
    from rich.table import Table

    table = Table("", "model", "quantity", comparison.before, comparison.after, "difference", "p (Holm)", box=None)
    for change in comparison.precision:
        row = change.row
        table.add_row(
            "[red]worse[/]" if change.regressed else "",
            change.role,
            escape(row.quantity),
            f"{row.before.estimate:.3f}",
            f"{row.after.estimate:.3f}",
            f"{row.difference.estimate:+.3f} ({row.difference.low:+.3f} to {row.difference.high:+.3f})",
            f"{change.adjusted_p:.2g}",
        )
    return table
