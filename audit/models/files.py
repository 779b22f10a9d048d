"""Model files as bytes: found, hashed, vouched for. No torch: planning a run asks for hashes alone."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from audit.core.errors import ModelError, UntrustedError

if TYPE_CHECKING:
    from audit.config import TrustConfig


def require_file(path: str | Path) -> Path:
    """`path`, which must be a file. Raises ModelError."""
    place = Path(path)
    if not place.is_file():
        what = "a folder" if place.is_dir() else "no file"
        hint = f" Write hf:{path} for a Hugging Face folder." if (place / "config.json").is_file() else ""
        raise ModelError(f"The model file {str(path)!r} is {what}; give a checkpoint's path.{hint}")
    return place


def basename(weights: str) -> str:
    """The name of a checkpoint, or of hf:FOLDER, without the folders it lies in."""
    return Path(os.path.abspath(weights.removeprefix("hf:"))).name


def read_whole(path: Path) -> bytes:
    """The bytes of `path`. Raises ModelError when the system refuses."""
    try:
        return path.read_bytes()
    except OSError as fault:
        raise ModelError(f"{path.name} cannot be read ({fault.strerror}); check its permissions.") from fault


def sha256_of(path: Path) -> str:
    """SHA-256 of a file, read in pieces."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as fault:
        raise ModelError(f"{path.name} cannot be read ({fault.strerror}); check its permissions.") from fault


def check_trusted(path: Path, body: bytes, trust: Sequence[TrustConfig], *, reason: str) -> str:
    """The SHA-256 of `body`, the bytes about to run, when somebody vouches for the file `path`.

    `why` says in what sense the file is code. Raises UntrustedError when nobody does, or when it has changed.
    """
    here = path.resolve()
    sha256 = hashlib.sha256(body).hexdigest()
    entries = [entry for entry in trust if Path(entry.path).expanduser().resolve() == here]
    if not entries:
        absent = [entry.path for entry in trust if not Path(entry.path).expanduser().exists()]
        raise UntrustedError(
            f"{path.name} {reason}, and code runs with your rights; nobody has vouched for it. "
            + (f"The file {absent[0]!r}, which was vouched for, does not exist. " if absent else "")
            + f"If you know where it comes from, allow this file alone with --trust {path}."
        )
    changed = [entry for entry in entries if entry.sha256 not in (None, sha256)]
    if changed:
        raise UntrustedError(
            f"{path.name} has changed since it was trusted: its SHA-256 is {sha256}, and {changed[0].sha256} was "
            "vouched for. Read it again, then update sha256 under [[model.trust]]."
        )
    return sha256
