"""What commands print: results to stdout, all else to stderr, an error as a sentence with an exit code."""

from __future__ import annotations

import json
import logging
import os
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, redirect_stdout, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

import typer
from rich.console import Console
from rich.markup import escape

from audit.cli.faults import as_error
from audit.core.errors import InternalError
from audit.core.wording import agree

MARKS: Mapping[str, str] = {
    "pass": "[green]pass[/]",
    "warn": "[yellow]warn[/]",
    "fail": "[red]fail[/]",
    "inconclusive": "[magenta]inconclusive[/]",
    "informative": "[dim]note[/]",
    "not_run": "[dim]not run[/]",
}
"""Verdicts as words of a terminal, in rich's markup."""
_WIDE = 10_000
"""Columns of a stream that is no terminal: a table in a file or a pipe is cut nowhere."""


class _Console(Console):
    """A console whose words agree in number, and which falls silent when its reader goes away: the command then goes on
    to its own exit code."""

    def print(self, *objects: Any, **options: Any) -> None:
        super().print(*(agree(item) if isinstance(item, str) else item for item in objects), **options)

    def on_broken_pipe(self) -> None:
        self.quiet = True
        silence(self.file)


@dataclass
class Terminal:
    """Where a command prints.

    Attributes:
        stdout: For results.
        stderr: For everything else.
        as_json: Whether stdout holds one JSON document and nothing else.
        quiet: Whether only errors go to stderr.
        verbose: Whether debug messages and tracebacks are printed too.
        document: Where that document goes.
        emitted: Whether the result was printed.
    """

    stdout: Console
    stderr: Console
    as_json: bool
    quiet: bool
    verbose: bool
    document: TextIO | None = None
    emitted: bool = False

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
        self.emitted = True
        if self.as_json:
            self._print_document(document)
            return
        try:
            show()
        except BrokenPipeError:
            silence(sys.stdout)

    def refuse(self, sentence: str, code: int) -> None:
        """Print an error, and where one document was promised and none is there yet, as that document.

        Args:
            sentence: What failed, what was expected and what to do.
            code: The exit code.
        """
        with suppress(OSError):
            self.stderr.print(f"[bold red]error:[/] {escape(_printable(sentence))}", soft_wrap=True)
        if self.as_json and not self.emitted:
            with suppress(OSError):
                self._print_document({"error": sentence, "exit_code": code})

    def _print_document(self, document: Mapping[str, Any]) -> None:
        text = json.dumps(document, indent=2, sort_keys=True, ensure_ascii=False)
        stream = self.document or sys.stdout
        try:
            text.encode(getattr(stream, "encoding", None) or "utf-8")
        except UnicodeEncodeError:  # another encoding, or the name of a file that is no text
            text = json.dumps(document, indent=2, sort_keys=True)
        try:
            print(text, file=stream, flush=True)
        except BrokenPipeError:
            silence(stream)


@contextmanager
def command_context(*, as_json: bool, quiet: bool, verbose: bool, no_color: bool) -> Iterator[Terminal]:
    """A terminal for a command; an error inside becomes a sentence and an exit code.

    Args:
        as_json: Whether stdout holds one JSON document and nothing else.
        quiet: Whether only errors go to stderr.
        verbose: Whether debug messages and tracebacks are printed too.
        no_color: Whether to print plain text.

    Raises:
        Exit: An error, Ctrl-C or a closed stdout ended the command.
    """
    stdout = sys.stdout
    terminal = Terminal(
        stdout=_console(stdout, no_color=no_color),
        stderr=_console(sys.stderr, no_color=no_color),
        as_json=as_json,
        quiet=quiet,
        verbose=verbose,
        document=stdout,
    )
    try:
        with _logging_to(terminal):
            yield terminal
    except (typer.Exit, GeneratorExit):
        raise
    except BaseException as fault:
        if isinstance(fault, BrokenPipeError) or isinstance(fault.__context__, BrokenPipeError):
            silence(stdout)
            raise typer.Exit(0) from None
        error = as_error(fault)
        if verbose or (isinstance(error, InternalError) and not error.report):
            traceback.print_exc()
        terminal.refuse(str(error), error.exit_code)
        raise typer.Exit(error.exit_code) from None


@contextmanager
def document_alone(terminal: Terminal) -> Iterator[None]:
    """With `--json`, what others print to stdout inside the block, such as a model's own code, goes to stderr.

    Args:
        terminal: Prints the document.
    """
    if not terminal.as_json:
        yield
        return
    with redirect_stdout(sys.stderr):
        yield


def silence(stream: TextIO | Any) -> None:
    """Let a stream whose reader is gone swallow what is still to come.

    Args:
        stream: Standard output or standard error.
    """
    try:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)
    except (OSError, ValueError, AttributeError):  # no file behind it
        return


def document_path(run: Path) -> Path:
    """The audit.json of a run.

    Args:
        run: A run folder, or the file itself.
    """
    return run if run.is_file() or run.suffix == ".json" else run / "audit.json"


def _console(stream: TextIO | None, *, no_color: bool) -> Console:
    plain: dict[str, Any] = {"no_color": True, "color_system": None} if no_color else {}
    console = _Console(file=stream, stderr=stream is sys.stderr, highlight=False, emoji=False, **plain)
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console.width = _WIDE
    return console


def _printable(text: str) -> str:
    """Names from files may hold terminal escapes and bidi marks: they are printed as escapes, never obeyed."""
    return "".join(c if c.isprintable() or c == "\n" else f"\\x{ord(c):02x}" for c in text)


class _LogHandler(logging.Handler):
    """Prints each record of the log as one line, as wide as it is."""

    def __init__(self, console: Console) -> None:
        super().__init__()
        self.console = console

    def emit(self, record: logging.LogRecord) -> None:
        """Print a record.

        Args:
            record: The record.
        """
        colour = "red" if record.levelno >= logging.ERROR else "yellow"
        with suppress(OSError):
            text = escape(_printable(self.format(record)))
            self.console.print(f"[{colour}]{record.levelname:<8}[/] {text}", soft_wrap=True)


@contextmanager
def _logging_to(terminal: Terminal) -> Iterator[None]:
    """The package's log goes to `terminal` inside the block, and where it went before after it."""
    log = logging.getLogger("audit")
    before = log.handlers[:], log.level, log.propagate
    log.handlers[:] = [_LogHandler(terminal.stderr)]
    log.setLevel(logging.DEBUG if terminal.verbose else logging.ERROR if terminal.quiet else logging.WARNING)
    log.propagate = False
    try:
        yield
    finally:
        log.handlers[:], log.propagate = before[0], before[2]
        log.setLevel(before[1])
