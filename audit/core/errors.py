"""The errors of the package: each message says what failed, what was expected and what to do."""

from __future__ import annotations

import re
from collections.abc import Iterable
from difflib import get_close_matches

from audit.core.note import Note
from audit.core.wording import agree


class AuditError(Exception):
    """Base of every error a user is meant to read; `exit_code` is the command line's."""

    exit_code = 3

    def __str__(self) -> str:
        return agree(super().__str__())


class UsageError(AuditError):
    """A flag, a configuration key or an argument of the public API is wrong."""

    exit_code = 2


class DataError(UsageError):
    """The images or labels cannot be used as given."""


class ModelError(UsageError):
    """The model or its checkpoint cannot be used as given."""


class UntrustedError(AuditError):
    """Something that runs code was given without `--trust`, or changed since it was trusted."""

    exit_code = 4


class SetupError(AuditError):
    """The machine lacks something: a package, disk space, permission, a device."""

    exit_code = 5


class TrainingDiverged(AuditError):
    """The loss or the weights became NaN or infinite; the message names the step, the learning rate and the last
    checkpoint."""


class Interrupted(AuditError):
    """The user asked to stop; what was finished is stored and the same command resumes."""

    exit_code = 130


class InternalError(AuditError):
    """Audit itself failed, in a way that nobody foresaw; no verdict on the model follows from it.

    70 is what sysexits.h calls EX_SOFTWARE.
    """

    exit_code = 70

    def __init__(self, sentence: str, report: str = "") -> None:
        """Say what failed.

        Args:
            sentence: What failed and where.
            report: The file that holds the traceback; empty where there is none.
        """
        super().__init__(sentence)
        self.report = report


class NotApplicable(Exception):
    """A method does not apply to this model or this data; the message says why."""

    def __init__(self, reason: Note | str) -> None:
        """Say why.

        Args:
            reason: A note, or a sentence that no language has another text for.
        """
        super().__init__(reason)
        self.reason = Note.model_validate(reason)


_COLOURS = re.compile(r"\x1b\[[0-9;]*m")
"""What colours words on a terminal (ECMA-48, select graphic rendition)."""


def said_lines(fault: BaseException) -> list[str]:
    """The lines of an exception's message that hold something, without the codes that colour a terminal.

    Args:
        fault: Any exception.
    """
    return [line for line in _COLOURS.sub("", str(fault)).splitlines() if line.strip()]


def one_line(fault: BaseException) -> str:
    """The first line of an exception's message, short enough for a sentence and without a full stop.

    Args:
        fault: Any exception.
    """
    lines = said_lines(fault)
    return for_a_sentence(lines[0]) if lines else type(fault).__name__


def for_a_sentence(line: str) -> str:
    """A line of a message, short enough for a sentence and without a full stop.

    Args:
        line: The line.
    """
    return line.strip()[:300].rstrip(".: ")


def fault_line(fault: BaseException) -> str:
    """The first line of an exception's message, after its type where it is no error of the package.

    Args:
        fault: Any exception.
    """
    name = type(fault).__name__
    return one_line(fault) if isinstance(fault, AuditError) or not str(fault) else f"{name}: {one_line(fault)}"


def unknown_name(kind: str, name: str, available: Iterable[str]) -> UsageError:
    """The error for a name that does not exist: it lists those that do, and suggests the most similar one.

    Args:
        kind: What is named, such as "attack".
        name: The name that was asked for.
        available: The names there are.

    Returns:
        The error, for the caller to raise.
    """
    names = sorted(available)
    return UsageError(f"Unknown {kind} {name!r}.{nearest(name, names)} Known: {', '.join(names) or 'none'}.")


def nearest(name: str, available: Iterable[str]) -> str:
    """A suggestion, " Did you mean 'x'?", for a misspelt name.

    Args:
        name: The name that was asked for.
        available: The names there are.

    Returns:
        The suggestion with a leading space; empty when no name is similar.
    """
    near = get_close_matches(name, list(available), n=1, cutoff=0.5)
    return f" Did you mean {near[0]!r}?" if near else ""
