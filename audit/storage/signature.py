"""Signatures of a run folder or of a file of weights, by the keys and in the format of OpenSSF model-signing.

The format: a Sigstore bundle over an in-toto statement of the SHA-256 of each file
(github.com/sigstore/model-transparency).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from audit.core.errors import SetupError, UntrustedError, UsageError, one_line
from audit.storage.store import disk_faults

SIGNATURE = "audit.sig"
"""Name of the signature of a run folder, inside it."""
_CHANGING = ("store", "timing.json", "live.html", SIGNATURE)
"""What of a run folder is not signed: the store, from which a run goes on, and what tells of one moment."""


def signature_of(path: Path) -> Path:
    """Where the signature of a folder or a file is by default.

    Args:
        path: A run folder, or a file of weights.
    """
    return path / SIGNATURE if path.is_dir() else path.with_name(f"{path.name}.sig")


def sign(path: Path, signature: Path, *, private_key: Path, password: str = "") -> list[str]:
    """Sign the files of a run folder, or one file.

    Args:
        path: The folder or the file.
        signature: The file that the signature is written to.
        private_key: A private elliptic-curve key in PEM format.
        password: Of the key; empty where it has none.

    Returns:
        The signed files, relative to the folder.

    Raises:
        UsageError: There is nothing to sign, or the key cannot be read.
        SetupError: The package is missing, or the disk refuses.
    """
    files = _files(path)
    if not files:
        raise UsageError(f"There is nothing to sign at {path}: give a run folder or a file of weights.")
    with _library() as library:
        config = library.signing.Config().set_hashing_config(_hashing(library, path))
        with _key_faults(private_key, "private"):
            config.use_elliptic_key_signer(private_key=private_key, password=password.encode() or None)
        with disk_faults(signature, "--signature"):
            signature.parent.mkdir(parents=True, exist_ok=True)
            config.sign(path, signature)
    return files


def verify_signature(path: Path, signature: Path, *, public_key: Path) -> list[str]:
    """Check that files are as they were signed.

    Args:
        path: The run folder or the file.
        signature: The signature.
        public_key: The public key in PEM format that belongs to the private one.

    Returns:
        The files that are signed and unchanged, relative to the folder.

    Raises:
        UsageError: A file is missing or no signature, or the key cannot be read.
        UntrustedError: The signature was made with another key, or is of other content.
        SetupError: The package is missing.
    """
    if not signature.is_file():
        raise UsageError(f"There is no signature at {signature}: `audit sign` writes one, or name it with --signature.")
    if not path.exists():
        raise UsageError(f"There is nothing at {path}: give the run folder or the file that was signed.")
    with _library() as library:
        config = library.verifying.Config().set_hashing_config(_hashing(library, path))
        with _key_faults(public_key, "public"):
            config.use_elliptic_key_verifier(public_key=public_key)
        try:
            config.verify(path, signature)
        except OSError as fault:
            raise UsageError(f"Cannot read {path} or {signature}: {one_line(fault)}.") from fault
        except Exception as fault:
            raise UntrustedError(
                f"{signature.name} is no valid signature of {path} under the key {public_key.name}: {_cause(fault)}. "
                "Either the files changed after they were signed, or somebody else signed them; do not use them."
            ) from fault
    return _files(path)


def _cause(fault: Exception) -> str:
    """What differs, without the bytes of digests."""
    return re.split(r": Expected 'Digest|\"?\]$", one_line(fault))[0].replace('["', "")


def _files(path: Path) -> list[str]:
    if path.is_file():
        return [path.name]
    inner = (item.relative_to(path) for item in sorted(path.rglob("*")) if item.is_file())
    return [item.as_posix() for item in inner if item.parts[0] not in _CHANGING and not _hidden(item)]


def _hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)


def _hashing(library: Any, path: Path) -> Any:
    config = library.hashing.Config()
    if not path.is_dir():
        return config
    hidden = [item for item in path.rglob("*") if _hidden(item.relative_to(path))]
    return config.set_ignored_paths(paths=[*(path / name for name in _CHANGING), *hidden], ignore_git_paths=True)


@contextmanager
def _library() -> Iterator[Any]:
    try:
        import model_signing
    except ImportError as fault:
        raise SetupError(
            f"Signatures need model-signing and pyopenssl ({one_line(fault)}); install them with pip install "
            "'audit[sign]'."
        ) from fault
    yield model_signing


@contextmanager
def _key_faults(key: Path, kind: str) -> Iterator[None]:
    try:
        yield
    except OSError as fault:
        cause = fault.strerror or one_line(fault)
        raise UsageError(f"Cannot read the key {key}: {cause}. Give a PEM file.") from fault
    except Exception as fault:
        raise UsageError(
            f"{key} is no {kind} elliptic-curve key in PEM format ({one_line(fault)}). Make a pair with: openssl "
            "ecparam -name prime256v1 -genkey -noout -out key.pem, and openssl ec -in key.pem -pubout -out key.pub."
        ) from fault
