"""What ends a command, as a sentence and an exit code: errors of the package, of the shell's words, of the machine, and
those that nobody foresaw."""

from __future__ import annotations

import errno
import os
import re
import sys
import tempfile
import traceback
from pathlib import Path

import typer

from audit.core.errors import (
    AuditError,
    InternalError,
    Interrupted,
    NotApplicable,
    SetupError,
    UsageError,
    fault_line,
    one_line,
)

_REFUSED_WORDS = typer.BadParameter.__mro__[2]
"""ClickException, the base of what typer raises for wrong words; newer versions have one of their own."""
_NO_MEMORY = re.compile(r"out of memory|can't allocate memory|cannot allocate memory|bad_alloc", re.IGNORECASE)


def as_error(fault: BaseException) -> AuditError:
    """The error of the package that says what an exception means to whoever typed the command.

    Args:
        fault: What ended the command.
    """
    if isinstance(fault, AuditError):
        return fault
    if isinstance(fault, KeyboardInterrupt | typer.Abort | EOFError):
        return Interrupted("Aborted; what a run has finished is kept, and the same command goes on from it.")
    if isinstance(fault, _REFUSED_WORDS):
        return UsageError(_about_words(fault))
    if isinstance(fault, NotApplicable):
        return UsageError(_ended(str(fault.reason)))
    if isinstance(fault, MemoryError) or (isinstance(fault, RuntimeError) and _NO_MEMORY.search(str(fault))):
        return SetupError(
            f"The memory did not suffice ({one_line(fault)}). Use smaller images, smaller batches or fewer examples, "
            "or a machine with more memory."
        )
    if isinstance(fault, OSError):
        return SetupError(_about_the_system(fault))
    return _unforeseen(fault)


def require_current_folder() -> None:
    """Refuse a deleted working folder in words: the libraries that are loaded later end the process instead.

    Raises:
        SetupError: The folder that the command was started in is gone.
    """
    try:
        os.getcwd()
    except OSError:
        raise SetupError(
            "The folder that this command was started in no longer exists. Change to one that does."
        ) from None


def _about_words(fault: BaseException) -> str:
    """A sentence of what is wrong with the words of a command line, and the help to read."""
    context = getattr(fault, "ctx", None)
    path = context.command_path if context else "audit"
    if type(fault).__name__ == "NoArgsIsHelpError":
        return f"No command was given. `{path} --help` lists them."
    message = " ".join(str(fault.format_message()).split())  # type: ignore[attr-defined]
    return f"{_ended(message)} `{path} --help` lists what there is."


def _about_the_system(fault: OSError) -> str:
    place = f" at {fault.filename}" if fault.filename else ""
    reason = fault.strerror or one_line(fault)
    if fault.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"The disk is full{place} ({reason}). Free some space and run the same command again."
    return f"The operating system refused a file{place}: {reason}. Mend that and run the same command again."


def _unforeseen(fault: BaseException) -> InternalError:
    """An error that owns up to a fault of audit, and names the file that holds the traceback."""
    frames = traceback.extract_tb(fault.__traceback__)
    where = f" ({Path(frames[-1].filename).name}, line {frames[-1].lineno})" if frames else ""
    report = _write_traceback(fault)
    evidence = f" The traceback is in {report}; please report it." if report else " Please report it."
    return InternalError(
        f"audit itself failed, which is no verdict on the model: {fault_line(fault)}{where}.{evidence}", report
    )


def _write_traceback(fault: BaseException) -> str:
    """A file readable by its owner alone; "" where the system's folder for such files cannot be written."""
    text = "".join(traceback.format_exception(fault))
    try:
        descriptor, name = tempfile.mkstemp(prefix="audit-fault-", suffix=".txt")
        with os.fdopen(descriptor, "w", encoding="utf-8", errors="backslashreplace") as file:
            file.write(f"audit {' '.join(sys.argv[1:])}\nPython {sys.version}\n\n{text}")
    except OSError:
        return ""
    return name


def _ended(sentence: str) -> str:
    return sentence if sentence.endswith((".", "?", "!")) else f"{sentence}."
