"""The run folder: one owner at a time, one format, everything in it replaceable but the store."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from audit.core.errors import SetupError, UsageError
from audit.storage.store import Store, disk_faults, write_atomically

FORMAT = 1


@dataclass(frozen=True)
class RunFolder:
    """Where a run lives: `audit.json`, `report.html`, `timing.json`, `models/`, `store/`."""

    root: Path

    @property
    def store(self) -> Store:
        """The evidence."""
        return Store(self.root / "store")

    @property
    def document(self) -> Path:
        """The one document of the run."""
        return self.root / "audit.json"

    @property
    def report(self) -> Path:
        """The report."""
        return self.root / "report.html"

    @property
    def timing(self) -> Path:
        """When and how long, on this machine: what differs between equal runs, with what the report shows of it."""
        return self.root / "timing.json"

    @property
    def models(self) -> Path:
        """What belongs to the models made here."""
        return self.root / "models"

    def model(self, role: str) -> Path:
        """The weights of a model trained here."""
        return self.models / f"{role}.safetensors"

    def history(self, role: str) -> Path:
        """How its training went, one JSON row an epoch."""
        return self.models / f"{role}.history.jsonl"

    @property
    def published(self) -> Path:
        """Where a hardening or a compressing job leaves the model it was asked for."""
        return self.root / "model.safetensors"

    def publish(self, role: str) -> None:
        """Copy the weights of the model `role` to where the job promises them."""
        write_atomically(self.published, self.model(role).read_bytes())


@contextmanager
def open_run(root: Path) -> Iterator[RunFolder]:
    """The run folder `root`, made if absent, ours alone while open.

    Raises UsageError for a folder of another format, SetupError when another run holds it or it
    cannot be written.
    """
    with disk_faults(root):
        _check_format(root)
        root.mkdir(parents=True, exist_ok=True)
        probe = root / ".writable"
        probe.touch()
        probe.unlink()
    owner = root / ".owner"
    lock = FileLock(root / ".lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        pid = owner.read_text() if owner.exists() else "unknown"
        raise SetupError(
            f"Another run (process {pid}) is working in {root}. Wait for it, or give another folder with --out."
        ) from None
    try:
        with disk_faults(root):
            owner.write_text(str(os.getpid()))
        write_atomically(root / "run.json", json.dumps({"tool": "audit", "format": FORMAT}) + "\n")
        folder = RunFolder(root)
        for draft in (*root.glob(".draft-*"), *root.glob("models/.draft-*")):
            draft.unlink()
        folder.store.sweep()
        yield folder
    finally:
        with suppress(OSError):  # the folder itself may be gone
            owner.unlink()
        lock.release()


def _check_format(root: Path) -> None:
    if root.exists() and not root.is_dir():
        raise UsageError(f"{root} is a file, where a run folder was expected; give a folder with --out.")
    marker = root / "run.json"
    if not marker.exists():
        return
    try:
        found = json.loads(marker.read_text())["format"]
    except (ValueError, KeyError, TypeError, OSError):
        found = "unreadable"
    if found != FORMAT:
        raise UsageError(
            f"{root} was written by another version of audit (run format {found}, this one writes {FORMAT}). "
            "Give another folder with --out, or delete this one."
        )
