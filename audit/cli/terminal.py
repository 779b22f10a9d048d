"""What commands print: results to stdout, all else to stderr, an error as a sentence with an exit code."""

from __future__ import annotations

import json
import logging
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import typer
from rich.console import Console
from rich.markup import escape

from audit.core.errors import AuditError

MARKS: Mapping[str, str] = {
    "pass": "[green]pass[/]",
    "warn": "[yellow]warn[/]",
    "fail": "[red]fail[/]",
    "inconclusive": "[magenta]inconclusive[/]",
    "informative": "[dim]note[/]",
    "not_run": "[dim]not run[/]",
}
"""Verdicts as words of a terminal, in rich's markup."""


@dataclass(frozen=True)
class Terminal:
    """Where a command prints.

    Attributes:
        stdout: For results.
        stderr: For everything else.
        as_json: Whether stdout holds one JSON document and nothing else.
        quiet: Whether only errors go to stderr.
        verbose: Whether debug messages and tracebacks are printed too.
    """

    stdout: Console
    stderr: Console
    as_json: bool
    quiet: bool
    verbose: bool

    def info(self, text: str) -> None:
        """Print a line to stderr, unless quiet.

        Args:
            text: In rich's markup: escape what comes from outside.
        """
        if not self.quiet:
            self.stderr.print(text, soft_wrap=True)

    def emit(self, document: Mapping[str, Any], show: Callable[[], object]) -> None:
        """Print the result of a command to stdout.

        Args:
            document: The result for a program, printed with --json.
            show: Prints the result for a person; called otherwise.
        """
        if self.as_json:
            print(json.dumps(document, indent=2, sort_keys=True, ensure_ascii=False))
        else:
            show()


@contextmanager
def command_context(*, as_json: bool, quiet: bool, verbose: bool, no_color: bool) -> Iterator[Terminal]:
    """A terminal for a command; an error inside becomes a sentence and an exit code.

    Args:
        as_json: Whether stdout holds one JSON document and nothing else.
        quiet: Whether only errors go to stderr.
        verbose: Whether debug messages and tracebacks are printed too.
        no_color: Whether to print plain text.

    Raises:
        Exit: An error of the package, Ctrl-C or a closed stdout ended the command.
    """
    color = {"no_color": True, "color_system": None} if no_color else {}
    terminal = Terminal(
        stdout=Console(highlight=False, emoji=False, **color),  # type: ignore[arg-type]
        stderr=Console(stderr=True, highlight=False, emoji=False, **color),  # type: ignore[arg-type]
        as_json=as_json,
        quiet=quiet,
        verbose=verbose,
    )
    try:
        with _logging_to(terminal):
            yield terminal
    except AuditError as fault:
        if verbose:
            traceback.print_exc()
        _refuse(terminal, str(fault), fault.exit_code)
    except KeyboardInterrupt:
        _refuse(terminal, "Aborted; finished work is kept, and the same command goes on from it.", 130)
    except BrokenPipeError:
        sys.stderr.close()
        raise typer.Exit(0) from None


def document_path(run: Path) -> Path:
    """The audit.json of a run.

    Args:
        run: A run folder, or the file itself.
    """
    return run if run.is_file() or run.suffix == ".json" else run / "audit.json"


def _refuse(terminal: Terminal, sentence: str, code: int) -> None:
    terminal.stderr.print(f"[bold red]error:[/] {escape(_printable(sentence))}", soft_wrap=True)
    if terminal.as_json:
        print(json.dumps({"error": sentence, "exit_code": code}))
    raise typer.Exit(code)


def _printable(text: str) -> str:
    """Names from files may hold terminal escapes and bidi marks: they are printed as escapes, never obeyed."""
    return "".join(c if c.isprintable() or c == "\n" else f"\\x{ord(c):02x}" for c in text)


@contextmanager
def _logging_to(terminal: Terminal) -> Iterator[None]:
    """The package's log goes to `terminal` inside the block, and where it went before after it."""
    from rich.logging import RichHandler

    log = logging.getLogger("audit")
    before = log.handlers[:], log.level, log.propagate
    log.handlers[:] = [RichHandler(console=terminal.stderr, show_time=False, show_path=False)]
    log.setLevel(logging.DEBUG if terminal.verbose else logging.ERROR if terminal.quiet else logging.WARNING)
    log.propagate = False
    try:
        yield
    finally:
        log.handlers[:], log.propagate = before[0], before[2]
        log.setLevel(before[1])
