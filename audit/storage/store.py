"""A content-addressed folder of evidence: one sub-folder a cell."""

from __future__ import annotations

import errno
import hashlib
import json
import logging
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load as parse_arrays
from safetensors.numpy import save as serialize_arrays

from audit.core.cell import Cell, canonical_json
from audit.core.errors import SetupError
from audit.core.evidence import Evidence, Measurement
from audit.core.note import Note

log = logging.getLogger("audit")
_EVIDENCE = "evidence.json"
_ARRAYS = "arrays.safetensors"
_MEASUREMENT = "measurement:"


@dataclass(frozen=True)
class Store:
    """Evidence by cell key. A kill leaves no half-written evidence: a folder appears by one rename.

    Attributes:
        root: The folder that holds it.
    """

    root: Path

    def has(self, key: str) -> bool:
        """Tell whether there is evidence for `key`; its checksums are verified by `get`.

        Args:
            key: A cell's key.
        """
        return (self._folder(key) / _EVIDENCE).is_file()

    def get(self, key: str) -> Evidence | None:
        """Read the evidence for `key`.

        Args:
            key: A cell's key.

        Returns:
            The evidence; None where there is none, or where it is damaged (a warning is logged and it is removed).
        """
        folder = self._folder(key)
        try:
            document = (folder / _EVIDENCE).read_bytes()
            arrays = (folder / _ARRAYS).read_bytes()
            return _deserialize(document, arrays)
        except FileNotFoundError:
            return None
        except _DamagedError:
            log.warning("Stored evidence %s is damaged: its checksum is wrong. It is computed again.", key[:12])
            shutil.rmtree(folder, ignore_errors=True)
            return None

    def without_arrays(self) -> Iterator[Evidence]:
        """Every evidence of the store as far as its JSON goes, without arrays and measurements, which are not read.

        Yields:
            Each, in the order of the keys; damaged ones are left out.
        """
        for path in sorted(self.root.glob(f"*/*/{_EVIDENCE}")):
            try:
                yield Evidence(**_described(_verified_body(path.read_bytes())))
            except (_DamagedError, FileNotFoundError):
                continue

    def put(self, evidence: Evidence) -> None:
        """Write `evidence` under its cell's key, in place of what was there.

        Args:
            evidence: What a cell measured.

        Raises:
            SetupError: When the disk refuses.
        """
        folder = self._folder(evidence.cell.key)
        document, arrays = _serialize(evidence)
        with disk_faults(self.root, "--out"):
            folder.parent.mkdir(parents=True, exist_ok=True)
            draft = Path(tempfile.mkdtemp(prefix=".draft-", dir=folder.parent))
            try:
                _write_synced(draft / _ARRAYS, arrays)
                _write_synced(draft / _EVIDENCE, document)
                shutil.rmtree(folder, ignore_errors=True)
                draft.replace(folder)
            finally:
                shutil.rmtree(draft, ignore_errors=True)

    def scratch(self, key: str) -> Path:
        """The folder for the unfinished work of a cell; `clear_scratch` removes it.

        Args:
            key: The cell's key.
        """
        return self.root / "scratch" / key

    def clear_scratch(self, key: str) -> None:
        """Remove the unfinished work of a cell.

        Args:
            key: The cell's key.
        """
        shutil.rmtree(self.scratch(key), ignore_errors=True)

    def sweep(self) -> None:
        """Remove what a kill left half-written; the caller must hold the lock of the run folder."""
        for draft in self.root.glob("*/.draft-*"):
            shutil.rmtree(draft, ignore_errors=True)

    def _folder(self, key: str) -> Path:
        return self.root / key[:2] / key


class _DamagedError(Exception):
    pass


def write_atomically(path: Path, content: bytes | str, *, flag: str = "") -> None:
    """Replace a file in one step: a reader, or a kill, meets the old content or the new one whole.

    Args:
        path: The file; its folder is made where it is missing.
        content: Bytes, or text to be written as UTF-8.
        flag: The flag of the command line that names the file or its folder; empty where none does.

    Raises:
        SetupError: When the disk refuses.
    """
    # A file name that is no text, as Linux allows, stands in a document as an escape.
    body = content.encode(errors="backslashreplace") if isinstance(content, str) else content
    with disk_faults(path, flag):
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists() and not (path.is_file() or path.is_dir()):
            path.write_bytes(body)  # /dev/stdout, /dev/null or a pipe takes the text, and must not be replaced
            return
        descriptor, name = tempfile.mkstemp(prefix=".draft-", dir=path.parent)
        os.close(descriptor)
        draft = Path(name)
        try:
            _write_synced(draft, body)
            draft.chmod(0o644)
            draft.replace(path)
        finally:
            draft.unlink(missing_ok=True)


@contextmanager
def disk_faults(path: Path, flag: str = "") -> Iterator[None]:
    """Turn an OSError of the block into a SetupError that says what to do.

    Args:
        path: The file or the folder that the block writes, for the message.
        flag: The flag of the command line that names it; empty where none does.

    Raises:
        SetupError: When the operating system refuses to write.
    """
    try:
        yield
    except OSError as fault:
        if fault.errno in (errno.ENOSPC, errno.EDQUOT):
            raise SetupError(
                f"The disk holding {path} is full; nothing half-written was left. Free some space and run the "
                "same command again: finished work is kept."
            ) from fault
        raise SetupError(
            f"Cannot write to {path} ({fault.strerror or fault}); name a place that you may write to"
            f"{f' with {flag}' if flag else ''}."
        ) from fault


def _serialize(evidence: Evidence) -> tuple[bytes, bytes]:
    arrays = {name: np.ascontiguousarray(array).reshape(array.shape) for name, array in evidence.arrays.items()}
    arrays |= {_MEASUREMENT + m.name: np.ascontiguousarray(m.per_example) for m in evidence.measurements}
    serialized = serialize_arrays(arrays)
    body: dict[str, Any] = {
        "cell": asdict(evidence.cell),
        "status": evidence.status,
        "measurements": [{"name": m.name, "unit": m.unit, "better": m.better} for m in evidence.measurements],
        "facts": dict(evidence.facts),
        "forwards": evidence.forwards,
        "backwards": evidence.backwards,
        "seconds": evidence.seconds,
        "environment": dict(evidence.environment),
        "reason": evidence.reason,
        "arrays_sha256": hashlib.sha256(serialized).hexdigest(),
    }
    text = canonical_json(body)
    return canonical_json({"body": body, "sha256": _digest(text)}).encode(), serialized


def _deserialize(document: bytes, serialized: bytes) -> Evidence:
    body = _verified_body(document)
    if body["arrays_sha256"] != hashlib.sha256(serialized).hexdigest():
        raise _DamagedError
    # safetensors 0.8 gives arrays parsed from bytes in another order in every process.
    arrays = dict(sorted(parse_arrays(serialized).items()))
    measured = tuple(Measurement(**m, per_example=arrays.pop(_MEASUREMENT + m["name"])) for m in body["measurements"])
    return Evidence(measurements=measured, arrays=arrays, **_described(body))


def _verified_body(document: bytes) -> dict[str, Any]:
    try:
        outer = json.loads(document)
        body: dict[str, Any] = outer["body"]
        intact = outer["sha256"] == _digest(canonical_json(body))
    except (ValueError, KeyError, TypeError) as fault:
        raise _DamagedError from fault
    if not intact:
        raise _DamagedError
    return body


def _described(body: dict[str, Any]) -> dict[str, Any]:
    """The fields of evidence that its JSON holds."""
    fields = {k: body[k] for k in ("status", "facts", "forwards", "backwards", "seconds", "environment")}
    fields["reason"] = body["reason"] if isinstance(body["reason"], str) else Note.model_validate(body["reason"])
    return {"cell": Cell(**body["cell"]), **fields}


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _write_synced(path: Path, body: bytes) -> None:
    with path.open("wb") as file:
        file.write(body)
        file.flush()
        os.fsync(file.fileno())
