"""`audit check`: a finished run under a policy, without running anything again."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from audit.cli.options import Run, command
from audit.cli.terminal import Terminal, document_path


@command()
def check(
    terminal: Terminal,
    run: Run = Path("audit-run"),
    policy: Annotated[Path | None, typer.Option("--policy", help="Levels and thresholds by check.")] = None,
    junit: Annotated[Path | None, typer.Option("--junit", help="Also write JUnit XML here.")] = None,
    sarif: Annotated[Path | None, typer.Option("--sarif", help="Also write SARIF here: the problems.")] = None,
    passes: Annotated[bool, typer.Option("--sarif-passes", help="Keep in it what passed.")] = False,
    category: Annotated[
        str, typer.Option("--sarif-category", help="Its name beside other analyses of the same commit.")
    ] = "audit",
) -> None:
    """Gate a finished run: exit 1 when the policy calls a finding an error.

    Thresholds are held against the bound of the interval, not against the point.

    [bold]Examples[/]

      audit check

      audit check audit-run --policy policy.toml --junit junit.xml --sarif audit.sarif
    """
    from rich.markup import escape

    from audit.report.document import read_document
    from audit.report.gate import gate
    from audit.report.junit import render_junit
    from audit.report.policy import load_policy
    from audit.report.sarif import render_sarif
    from audit.storage.store import write_atomically

    rules, text = load_policy(policy) if policy else (None, "")
    document = read_document(document_path(run))
    gated = gate(document.findings, rules, text=text, source=_from_here(policy) if policy else "")
    if junit:
        write_atomically(junit, render_junit(document, gated), flag="--junit")
    if sarif:
        write_atomically(sarif, render_sarif(document, gated, passes=passes, category=category), flag="--sarif")
    rows: list[dict[str, Any]] = [
        {"role": row.finding.role, "check": row.finding.check, "verdict": row.verdict, "outcome": row.outcome}
        | {"title": row.finding.title, "line": row.line, "run_verdict": row.finding.verdict}
        for row in gated.rows
    ]

    def show() -> None:
        marks = {
            "error": "[red]error[/]",
            "warn": "[yellow]warn[/] ",
            "note": "[green]ok[/]   ",
            "off": "[dim]off[/]  ",
        }
        for row in gated.rows:
            mark = "[yellow]allowed[/]" if row.allowed else marks[row.outcome]
            title = f"{row.finding.role}: {row.finding.title}" + (f". {row.remark}" if row.remark else "")
            terminal.stdout.print(f"  {mark}  {escape(title)}", soft_wrap=True)
        for name in gated.unmeasured:
            terminal.stdout.print(f"  [yellow]none[/]   {name}: the policy asks for it, and nothing was measured")
        errors = sum(row["outcome"] == "error" for row in rows)
        terminal.stdout.print("The gate is passed." if gated.passed else f"The gate is failed: {errors} errors.")
        if not document.summary.complete:
            why = "it was cut before its end" if document.summary.cut_by else "some of its studies failed"
            terminal.stdout.print(f"The run is incomplete: {why}. The same `audit run` goes on.")
        for path in (junit, sarif):
            if path:
                terminal.stdout.print(f"Written: {escape(str(path))}", soft_wrap=True)

    terminal.emit(
        {
            "passed": gated.passed,
            "complete": document.summary.complete,
            "findings": rows,
            "unmeasured": list(gated.unmeasured),
        },
        show,
    )
    if not document.summary.complete:
        raise typer.Exit(3)
    if not gated.passed:
        raise typer.Exit(1)


def _from_here(path: Path) -> str:
    """A file as a repository names it whose root is the current folder; its name where it is elsewhere."""
    here, whole = Path.cwd().resolve(), path.resolve()
    return whole.relative_to(here).as_posix() if whole.is_relative_to(here) else path.name
