"""`audit check`: a finished run under a policy, without running anything again."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from audit.cli import options as flag
from audit.cli.terminal import command_context


def check(
    run: flag.Run = Path("audit-run"),
    policy: Annotated[Path | None, typer.Option("--policy", help="Levels and thresholds by check.")] = None,
    junit: Annotated[Path | None, typer.Option("--junit", help="Also write JUnit XML here.")] = None,
    sarif: Annotated[Path | None, typer.Option("--sarif", help="Also write SARIF here.")] = None,
    as_json: flag.AsJson = False,
    quiet: flag.Quiet = False,
    verbose: flag.Verbose = False,
    no_color: flag.NoColor = False,
) -> None:
    """Gate a finished run: exit 1 when the policy calls a finding an error.

    Thresholds are held against the bound of the interval, not against the point.

    [bold]Examples[/]

      audit check

      audit check audit-run --policy policy.toml --junit junit.xml --sarif audit.sarif
    """
    with command_context(as_json=as_json, quiet=quiet, verbose=verbose, no_color=no_color) as voice:
        from rich.markup import escape

        from audit.cli.documents import document_path
        from audit.report.document import read_document
        from audit.report.gate import gate
        from audit.report.junit import render_junit
        from audit.report.policy import load_policy
        from audit.report.sarif import render_sarif
        from audit.storage.store import write_atomically

        rules, text = load_policy(policy) if policy else (None, "")
        document = read_document(document_path(run))
        gated = gate(document.findings, rules, text=text, source=policy.name if policy else "")
        if junit:
            write_atomically(junit, render_junit(document, gated))
        if sarif:
            write_atomically(sarif, render_sarif(document, gated))
        rows: list[dict[str, Any]] = [
            {"role": row.finding.role, "check": row.finding.check, "verdict": row.verdict, "outcome": row.outcome}
            | {"title": row.finding.title, "line": row.line}
            for row in gated.rows
        ]

        def show() -> None:
            marks = {
                "error": "[red]error[/]",
                "warn": "[yellow]warn[/] ",
                "note": "[green]ok[/]   ",
                "off": "[dim]off[/]  ",
            }
            for row in rows:
                voice.out.print(f"  {marks[row['outcome']]}  {row['role']}: {escape(row['title'])}", soft_wrap=True)
            errors = sum(row["outcome"] == "error" for row in rows)
            voice.out.print("The gate is passed." if gated.passed else f"The gate is failed: {errors} errors.")

        voice.give({"passed": gated.passed, "complete": document.summary.complete, "findings": rows}, show)
        if not document.summary.complete:
            raise typer.Exit(3)
        if not gated.passed:
            raise typer.Exit(1)
