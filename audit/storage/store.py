"""A content-addressed folder of evidence: one sub-folder a cell, written whole or not at all."""

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
from safetensors.numpy import save as pack_arrays

from audit.core.cell import Cell, canonical_json
from audit.core.errors import SetupError
from audit.core.evidence import Evidence, Measurement

log = logging.getLogger("audit")
_HEAD = "evidence.json"
_ARRAYS = "arrays.safetensors"
_MEASURED = "measurement:"


@dataclass(frozen=True)
class Store:
    """Evidence by cell key under `root`. Safe against kill -9: a folder appears by one rename."""

    root: Path

    def has(self, key: str) -> bool:
        """Whether whole evidence for `key` is here (its checksums are verified by `get`)."""
        return (self._place(key) / _HEAD).is_file()

    def get(self, key: str) -> Evidence | None:
        """The evidence for `key`; None when absent, or when damaged (it is then removed, to be recomputed)."""
        place = self._place(key)
        try:
            head = (place / _HEAD).read_bytes()
            arrays = (place / _ARRAYS).read_bytes()
            return _unpack(head, arrays)
        except FileNotFoundError:
            return None
        except _Damaged:
            log.warning("Stored evidence %s is damaged: its checksum is wrong. It is computed again.", key[:12])
            shutil.rmtree(place, ignore_errors=True)
            return None

    def put(self, evidence: Evidence) -> None:
        """Write `evidence` under its cell's key. Raises SetupError when the disk refuses."""
        place = self._place(evidence.cell.key)
        head, arrays = _pack(evidence)
        with disk_faults(self.root):
            place.parent.mkdir(parents=True, exist_ok=True)
            draft = Path(tempfile.mkdtemp(prefix=".draft-", dir=place.parent))
            try:
                _write_synced(draft / _ARRAYS, arrays)
                _write_synced(draft / _HEAD, head)
                shutil.rmtree(place, ignore_errors=True)
                draft.replace(place)
            finally:
                shutil.rmtree(draft, ignore_errors=True)

    def scratch(self, key: str) -> Path:
        """A folder where the cell `key` may keep unfinished work; `clear_scratch` removes it."""
        return self.root / "scratch" / key

    def clear_scratch(self, key: str) -> None:
        """Forget unfinished work of `key`."""
        shutil.rmtree(self.scratch(key), ignore_errors=True)

    def sweep(self) -> None:
        """Remove what a kill left half-written. Only for the one who holds the run folder."""
        for draft in self.root.glob("*/.draft-*"):
            shutil.rmtree(draft, ignore_errors=True)

    def _place(self, key: str) -> Path:
        return self.root / key[:2] / key


class _Damaged(Exception):
    pass


def write_atomically(path: Path, content: bytes | str) -> None:
    """Replace `path` by `content` in one step. Raises SetupError when the disk refuses."""
    body = content.encode() if isinstance(content, str) else content
    with disk_faults(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
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
def disk_faults(place: Path) -> Iterator[None]:
    """Turn the operating system's refusals to write under `place` into sentences."""
    try:
        yield
    except OSError as fault:
        if fault.errno in (errno.ENOSPC, errno.EDQUOT):
            raise SetupError(
                f"The disk holding {place} is full; nothing half-written was left. Free some space and run the "
                "same command again: finished work is kept."
            ) from fault
        raise SetupError(
            f"Cannot write to {place} ({fault.strerror or fault}); give a folder you may write to with --out."
        ) from fault


def _pack(evidence: Evidence) -> tuple[bytes, bytes]:
    arrays = {name: np.ascontiguousarray(array).reshape(array.shape) for name, array in evidence.arrays.items()}
    arrays |= {_MEASURED + m.name: np.ascontiguousarray(m.per_example) for m in evidence.measurements}
    packed = pack_arrays(arrays)
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
        "arrays_sha256": hashlib.sha256(packed).hexdigest(),
    }
    text = canonical_json(body)
    return canonical_json({"body": body, "sha256": _digest(text)}).encode(), packed


def _unpack(head: bytes, packed: bytes) -> Evidence:
    try:
        outer = json.loads(head)
        body = outer["body"]
        intact = outer["sha256"] == _digest(canonical_json(body))
    except (ValueError, KeyError, TypeError) as fault:
        raise _Damaged from fault
    if not intact or body["arrays_sha256"] != hashlib.sha256(packed).hexdigest():
        raise _Damaged
    arrays = parse_arrays(packed)
    measured = tuple(Measurement(**m, per_example=arrays.pop(_MEASURED + m["name"])) for m in body["measurements"])
    kept = {k: body[k] for k in ("status", "facts", "forwards", "backwards", "seconds", "environment", "reason")}
    return Evidence(cell=Cell(**body["cell"]), measurements=measured, arrays=arrays, **kept)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _write_synced(path: Path, body: bytes) -> None:
    with path.open("wb") as file:
        file.write(body)
        file.flush()
        os.fsync(file.fileno())
