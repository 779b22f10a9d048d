"""`audit show`: what a finished run found and where its files are."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from audit.cli import options as flag
from audit.cli.terminal import Terminal, command_context

if TYPE_CHECKING:
    from audit.core.evidence import Finding
    from audit.document.schema import AuditDocument


def show(
    run: flag.Run = Path("audit-run"),
    as_json: flag.AsJson = False,
    quiet: flag.Quiet = False,
    verbose: flag.Verbose = False,
    no_color: flag.NoColor = False,
) -> None:
    """Print a finished run: the verdict, the findings from the worst on, what to run next, the files.

    With --quiet only what failed or is inconclusive is listed.

    [bold]Examples[/]

      audit show

      audit show fashion --json
    """
    with command_context(as_json=as_json, quiet=quiet, verbose=verbose, no_color=no_color) as voice:
        from audit.cli.documents import document_path
        from audit.report.document import read_document
        from audit.report.history import run_files

        source = document_path(run)
        document = read_document(source)
        files = run_files(source)
        given: dict[str, Any] = {
            "run": str(run),
            **document.summary.model_dump(mode="json"),
            "findings": [finding.model_dump(mode="json") for finding in document.findings],
            "files": [{"file": name, "bytes": size} for name, size in files],
        }
        voice.give(given, lambda: _print(document, files, voice))


def _print(document: AuditDocument, files: list[tuple[str, int]], voice: Terminal) -> None:
    from rich.markup import escape

    from audit.cli.verdicts import MARKS
    from audit.document.sanitise import visible

    def say(text: str) -> None:
        voice.out.print(text, soft_wrap=True)

    summary = document.summary
    say(f"{MARKS[summary.verdict]}  [bold]{escape(visible(summary.sentence))}[/]")
    if not summary.complete:
        say("The run is incomplete: some of its studies failed or are missing.")
    say("")
    for finding in document.findings:
        if not voice.quiet or finding.verdict in ("fail", "inconclusive"):
            say(f"  {MARKS[finding.verdict]}  {escape(visible(_told(finding)))}")
    commands = dict.fromkeys(
        f.command for f in document.findings if f.command and f.verdict in ("fail", "inconclusive")
    )
    if commands:
        say("\nNext:")
    for command in commands:
        say(f"  {escape(visible(command))}")
    say("\nFiles:")
    for name, size in files:
        say(f"  {size:>12,}  {escape(visible(name))}")


def _told(finding: Finding) -> str:
    if finding.interval is None:
        counted = f" (n = {finding.n:,})" if finding.n else ""
        return f"{finding.role}: {finding.title}{counted}"
    low, high = finding.interval
    if finding.unit == "share":
        return f"{finding.role}: {finding.title} ({low:.1%} to {high:.1%}, n = {finding.n:,})"
    return f"{finding.role}: {finding.title} ({low:.3g} to {high:.3g}, n = {finding.n:,})"
