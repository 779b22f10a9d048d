"""What can go wrong, as sentences: what failed, what was expected, what to do. One type a situation."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

from audit.core.note import Note


class AuditError(Exception):
    """Base of every error a user is meant to read; `exit_code` is the command line's."""

    exit_code = 3


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
    """Training left the finite numbers; the sentence names the step, the rate and the last good checkpoint."""


class Interrupted(AuditError):
    """The user asked to stop; what was finished is stored and the same command resumes."""

    exit_code = 130


class NotApplicable(Exception):
    """A method has no meaning for this model or data; the reason is shown, never an empty picture."""

    def __init__(self, reason: Note | str) -> None:
        """Say why.

        Args:
            reason: A note, or a sentence that no language has another text for.
        """
        super().__init__(reason)
        self.reason = Note.model_validate(reason)


def unknown_name(kind: str, name: str, known: Iterable[str]) -> UsageError:
    """A look-up error that lists what exists, the nearest name first."""
    names = sorted(known)
    return UsageError(f"Unknown {kind} {name!r}.{nearest(name, names)} Known: {', '.join(names) or 'none'}.")


def nearest(name: str, known: Iterable[str]) -> str:
    """ " Did you mean 'x'?" for the known name most like `name`; "" where none is."""
    near = get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f" Did you mean {near[0]!r}?" if near else ""
