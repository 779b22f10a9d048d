"""The run folder: what lies where, who may write in it, and which version of its format it has."""

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

RUN_FORMAT = 1


@dataclass(frozen=True)
class RunFolder:
    """The files of a run: `audit.json`, `report.html`, `data-issues.csv`, `timing.json`, `models/`, `store/`.

    Attributes:
        root: The folder.
    """

    root: Path

    @property
    def store(self) -> Store:
        """The store of evidence."""
        return Store(self.root / "store")

    @property
    def document(self) -> Path:
        """The document of the run, as JSON."""
        return self.root / "audit.json"

    @property
    def report(self) -> Path:
        """The report, as HTML."""
        return self.root / "report.html"

    @property
    def live(self) -> Path:
        """The page that follows a run while it goes on, with `audit run --watch`."""
        return self.root / "live.html"

    @property
    def timing(self) -> Path:
        """When the run was and how long its parts took, as JSON: whatever differs between equal runs."""
        return self.root / "timing.json"

    @property
    def data_issues(self) -> Path:
        """What to mend in the data, a row an image and issue, as CSV."""
        return self.root / "data-issues.csv"

    @property
    def models(self) -> Path:
        """The folder of the models trained in the run."""
        return self.root / "models"

    def model(self, role: str) -> Path:
        """The weights of a model made in the run, or the ONNX file that it is.

        Args:
            role: Of the model, as "standard" or "hardened".
        """
        whole = self.models / f"{role}.onnx"
        return whole if whole.exists() else self.models / f"{role}.safetensors"

    def history(self, role: str) -> Path:
        """How its training went, a row of JSON an epoch.

        Args:
            role: Of the model.
        """
        return self.models / f"{role}.history.jsonl"

    @property
    def released_model(self) -> Path:
        """The model that `audit harden` and `audit compress` are run for."""
        whole = self.root / "model.onnx"
        return whole if whole.exists() else self.root / "model.safetensors"

    def release(self, role: str) -> None:
        """Copy the weights of a model to `released_model`.

        Args:
            role: Of the model.
        """
        made = self.model(role)
        write_atomically(self.root / f"model{made.suffix}", made.read_bytes(), flag="--out")
        if made.suffix != ".onnx":
            (self.root / "model.onnx").unlink(missing_ok=True)  # of an earlier run of another method


@contextmanager
def open_run(root: Path) -> Iterator[RunFolder]:
    """Lock a run folder inside the block, made where it is absent.

    Args:
        root: The folder.

    Yields:
        The run folder.

    Raises:
        UsageError: The folder is of another format, or a file.
        SetupError: Another run holds it, or it cannot be written.
    """
    with disk_faults(root, "--out"):
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
        with disk_faults(root, "--out"):
            owner.write_text(str(os.getpid()))
        write_atomically(root / "run.json", json.dumps({"tool": "audit", "format": RUN_FORMAT}) + "\n", flag="--out")
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
        version = json.loads(marker.read_text())["format"]
    except (ValueError, KeyError, TypeError, OSError):
        version = "unreadable"
    if version != RUN_FORMAT:
        raise UsageError(
            f"{root} was written by another version of audit (run format {version}, this one writes {RUN_FORMAT}). "
            "Give another folder with --out, or delete this one."
        )
