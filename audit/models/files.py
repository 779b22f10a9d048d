"""Model files as bytes: checked, hashed, trusted. Without torch: planning a run needs the hashes alone."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from audit.core.errors import ModelError, UntrustedError, UsageError
from audit.core.note import Note

if TYPE_CHECKING:
    from audit.config import TrustConfig


def require_file(path: str | Path) -> Path:
    """The path of a model file that exists.

    Args:
        path: The path.

    Raises:
        ModelError: When it is no file.
    """
    file = Path(path)
    if not file.is_file():
        problem = "a folder" if file.is_dir() else "no file"
        if file.suffix == ".py":
            raise ModelError(f"{str(path)!r} is {problem}; a module of your own is --architecture FILE.py:FUNCTION.")
        hint = f" Write hf:{path} for a Hugging Face folder." if (file / "config.json").is_file() else ""
        raise ModelError(f"The model file {str(path)!r} is {problem}; give a checkpoint's path.{hint}")
    return file


def is_code(architecture: str) -> bool:
    """Whether an architecture's name means FILE.py:FUNCTION.

    Args:
        architecture: The name.
    """
    return architecture.rpartition(":")[0].endswith(".py") or architecture.endswith(".py")


def basename(weights: str) -> str:
    """The name of a checkpoint without the folders it is in.

    Args:
        weights: A file's path, or hf:FOLDER.
    """
    return Path(os.path.abspath(weights.removeprefix("hf:"))).name


def read_whole(path: Path) -> bytes:
    """The bytes of a file.

    Args:
        path: The file.

    Raises:
        ModelError: When the system refuses.
    """
    try:
        return path.read_bytes()
    except OSError as fault:
        raise ModelError(f"{path.name} cannot be read ({fault.strerror}); check its permissions.") from fault


def sha256_of(path: Path) -> str:
    """SHA-256 of a file in hexadecimal, read in pieces.

    Args:
        path: The file.

    Raises:
        ModelError: When the system refuses.
    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as fault:
        raise ModelError(f"{path.name} cannot be read ({fault.strerror}); check its permissions.") from fault


def require_trusted_files(trust: Sequence[TrustConfig]) -> None:
    """Refuse trust in files that do not exist: it was meant for others.

    Args:
        trust: The files that the user trusts.

    Raises:
        UsageError: One of them does not exist.
    """
    for entry in trust:
        if not Path(entry.path).expanduser().exists():
            raise UsageError(f"--trust {entry.path}: there is no such file, and nothing needed it; check its name.")


def check_trusted(
    path: Path, body: bytes, trust: Sequence[TrustConfig], *, reason: Note | str, otherwise: str = ""
) -> str:
    """Check that the user trusts the code that is about to run.

    Args:
        path: The file.
        body: Its bytes, which are what will run.
        trust: The files that the user trusts.
        reason: In what sense the file is code, for a sentence that begins with its name.
        otherwise: What else can be done, a sentence.

    Returns:
        SHA-256 of `body` in hexadecimal.

    Raises:
        UntrustedError: When the file is not trusted, or has changed since.
    """
    resolved = path.resolve()
    sha256 = hashlib.sha256(body).hexdigest()
    entries = [entry for entry in trust if Path(entry.path).expanduser().resolve() == resolved]
    if not entries:
        missing = [entry.path for entry in trust if not Path(entry.path).expanduser().exists()]
        raise UntrustedError(
            f"{path.name} {reason}, and code runs with your rights; nobody has vouched for it. "
            + (f"The file {missing[0]!r}, which was vouched for, does not exist. " if missing else "")
            + f"If you know where it comes from, allow this file alone with --trust {path}.{otherwise}"
        )
    changed = [entry for entry in entries if entry.sha256 not in (None, sha256)]
    if changed:
        raise UntrustedError(
            f"{path.name} has changed since it was trusted: its SHA-256 is {sha256}, and {changed[0].sha256} was "
            "vouched for. Read it again, then update sha256 under [[model.trust]]."
        )
    return sha256
