"""`audit show`: what a finished run found and where its files are."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from audit.cli.options import Run, command
from audit.cli.terminal import MARKS, Terminal, document_path

if TYPE_CHECKING:
    from audit.core.evidence import Finding
    from audit.document.schema import AuditDocument


@command()
def show(terminal: Terminal, run: Run = Path("audit-run")) -> None:
    """Print a finished run: the verdict, the findings from the worst on, what to run next, the files.

    With --quiet only what failed or is inconclusive is listed.

    [bold]Examples[/]

      audit show

      audit show fashion --json
    """
    from audit.report.document import read_document
    from audit.report.history import run_files

    source = document_path(run)
    document = read_document(source)
    files = run_files(source)
    contents: dict[str, Any] = {
        "run": str(run),
        **document.summary.model_dump(mode="json"),
        "findings": [finding.model_dump(mode="json") for finding in document.findings],
        "files": [{"file": name, "bytes": size} for name, size in files],
    }
    terminal.emit(contents, lambda: _print(document, files, terminal))


def _print(document: AuditDocument, files: list[tuple[str, int]], terminal: Terminal) -> None:
    from rich.markup import escape

    from audit.document.sanitise import visible

    def write(text: str) -> None:
        terminal.stdout.print(text, soft_wrap=True)

    summary = document.summary
    write(f"{MARKS[summary.verdict]}  [bold]{escape(visible(summary.sentence))}[/]")
    if not summary.complete:
        why = "it was cut before its end" if summary.cut_by else "some of its studies failed or are missing"
        write(f"The run is incomplete: {why}. The command that began it goes on.")
    write("")
    for finding in document.findings:
        if not terminal.quiet or finding.verdict in ("fail", "inconclusive"):
            write(f"  {MARKS[finding.verdict]}  {escape(visible(_sentence(finding)))}")
    commands = dict.fromkeys(
        f.command for f in document.findings if f.command and f.verdict in ("fail", "inconclusive")
    )
    if commands:
        write("\nNext:")
    for line in commands:
        write(f"  {escape(visible(line))}")
    write("\nFiles:")
    for name, size in files:
        write(f"  {size:>12,}  {escape(visible(name))}")


def _sentence(finding: Finding) -> str:
    if finding.interval is None:
        counted = f" (n = {finding.n:,})" if finding.n else ""
        return f"{finding.role}: {finding.title}{counted}"
    low, high = finding.interval
    if finding.unit == "share":
        return f"{finding.role}: {finding.title} ({low:.1%} to {high:.1%}, n = {finding.n:,})"
    return f"{finding.role}: {finding.title} ({low:.3g} to {high:.3g}, n = {finding.n:,})"
