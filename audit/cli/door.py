"""The one way out of the command line: whatever ends it, stdout holds what was promised and the exit code says why."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from itertools import pairwise
from typing import Any

import typer
from typer.core import TyperGroup

from audit.cli.terminal import command_context, silence
from audit.core.errors import UsageError


class OneDoor(TyperGroup):
    """The group of all commands, whose `main` ends the process in one way.

    Wrong words, Ctrl-C while they are read and errors outside any command become a sentence, an exit code and, with
    `--json`, a document on stdout, as errors inside a command do (`audit.cli.terminal.command_context`).
    """

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        windows_expand_args: bool = True,
        **extra: Any,
    ) -> Any:
        """Run a command and leave the process.

        Args:
            args: The words after the program's name; those of the process by default.
            prog_name: The name of the program, for messages.
            complete_var: As typer has it.
            standalone_mode: Whether to end the process; otherwise its errors reach the caller.
            windows_expand_args: As typer has it.
            **extra: As typer has them.

        Raises:
            SystemExit: With the exit code.
        """
        words = list(sys.argv[1:] if args is None else args)
        if not standalone_mode or _is_for_the_shell(words):
            return super().main(words, prog_name, complete_var, standalone_mode, windows_expand_args, **extra)
        _print_anything()
        code = 0
        try:
            with command_context(**_output_flags(words)):
                _require_values(self.commands, words)
                code = super().main(words, prog_name, complete_var, False, windows_expand_args, **extra) or 0
        except typer.Exit as ended:
            code = ended.exit_code
        _flush()
        sys.exit(code)


def _is_for_the_shell(words: Sequence[str]) -> bool:
    """Whether a shell asks how words go on, or for the script that asks: typer answers both, and ends the process."""
    return "_AUDIT_COMPLETE" in os.environ or words[:1] in (["--show-completion"], ["--install-completion"])


def _output_flags(words: Sequence[str]) -> dict[str, bool]:
    """The flags that every command has, read before any of the words is understood."""
    names = {"as_json": ("--json",), "quiet": ("--quiet", "-q"), "verbose": ("--verbose", "-v")}
    names["no_color"] = ("--no-color",)
    return {name: any(word in flags for word in words) for name, flags in names.items()}


def _require_values(commands: Mapping[str, Any], words: Sequence[str]) -> None:
    """Refuse a flag whose value was forgotten, so that the flag after it would be taken for the value."""
    if not words or words[0] not in commands:
        return
    options = [item for item in commands[words[0]].params if item.opts[0].startswith("-")]
    flags = {flag: getattr(item, "is_flag", False) for item in options for flag in (*item.opts, *item.secondary_opts)}
    for flag, value in pairwise(words[1:]):
        if flags.get(flag) is False and value in flags:
            raise UsageError(f"{flag} needs a value, and {value} follows, which is a flag itself. Give {flag} a value.")


def _print_anything() -> None:
    """Characters that the encoding of a stream lacks are printed as escapes, in place of a UnicodeEncodeError."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(AttributeError, ValueError, OSError):  # closed, or replaced by something simpler
            stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]


def _flush() -> None:
    """What a closed pipe or a full disk refuses here must not be refused again by the interpreter's own flush."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            silence(stream)
        except AttributeError:  # closed before Python started
            continue
