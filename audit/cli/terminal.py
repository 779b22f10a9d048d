"""How a command speaks: results on stdout, everything else on stderr; errors as one sentence and an exit code."""

from __future__ import annotations

import json
import logging
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import typer
from rich.console import Console
from rich.markup import escape

from audit.core.errors import AuditError


@dataclass(frozen=True)
class Terminal:
    """Where a command's words go. `out` is stdout, `aside` stderr; with `as_json` one document owns stdout."""

    out: Console
    aside: Console
    as_json: bool
    quiet: bool
    verbose: bool

    def say(self, text: str) -> None:
        """A line about what happens, on stderr; silent with --quiet. Rich markup: escape what is not yours."""
        if not self.quiet:
            self.aside.print(text, soft_wrap=True)

    def give(self, document: Mapping[str, Any], show: Callable[[], object]) -> None:
        """The command's result: `document` with --json, else what `show` prints."""
        if self.as_json:
            print(json.dumps(document, indent=2, sort_keys=True, ensure_ascii=False))
        else:
            show()


@contextmanager
def command_context(*, as_json: bool, quiet: bool, verbose: bool, no_color: bool) -> Iterator[Terminal]:
    """A command's voice. An error inside becomes a sentence and the exit code it stands for."""
    color = {"no_color": True, "color_system": None} if no_color else {}
    voice = Terminal(
        out=Console(highlight=False, **color),  # type: ignore[arg-type]
        aside=Console(stderr=True, highlight=False, **color),  # type: ignore[arg-type]
        as_json=as_json,
        quiet=quiet,
        verbose=verbose,
    )
    try:
        with _heard(voice):
            yield voice
    except AuditError as fault:
        if verbose:
            traceback.print_exc()
        _refuse(voice, str(fault), fault.exit_code)
    except KeyboardInterrupt:
        _refuse(voice, "Aborted; finished work is kept, and the same command goes on from it.", 130)
    except BrokenPipeError:
        sys.stderr.close()
        raise typer.Exit(0) from None


def _refuse(voice: Terminal, sentence: str, code: int) -> None:
    voice.aside.print(f"[bold red]error:[/] {escape(_printable(sentence))}", soft_wrap=True)
    if voice.as_json:
        print(json.dumps({"error": sentence, "exit_code": code}))
    raise typer.Exit(code)


def _printable(text: str) -> str:
    """Names from files may hold terminal escapes and bidi marks: they are shown, never obeyed."""
    return "".join(c if c.isprintable() or c == "\n" else f"\\x{ord(c):02x}" for c in text)


@contextmanager
def _heard(voice: Terminal) -> Iterator[None]:
    """The suite's log goes through `voice` inside the block, and where it went before after it."""
    from rich.logging import RichHandler

    log = logging.getLogger("audit")
    before = log.handlers[:], log.level, log.propagate
    log.handlers[:] = [RichHandler(console=voice.aside, show_time=False, show_path=False)]
    log.setLevel(logging.DEBUG if voice.verbose else logging.ERROR if voice.quiet else logging.WARNING)
    log.propagate = False
    try:
        yield
    finally:
        log.handlers[:], log.propagate = before[0], before[2]
        log.setLevel(before[1])
