"""Checkpoint files of unfinished work: tensors and JSON values in one file, replaced in one step."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from audit.core.cell import plain_json
from audit.storage.tensor_file import load_metadata, load_tensors, save_tensors

log = logging.getLogger("audit")
SAVE_INTERVAL_SECONDS = 20.0
"""Seconds of work that a kill may cost beside the step under way; work that takes less is never written."""


def save_checkpoint(path: Path, tensors: Mapping[str, Tensor], **values: Any) -> None:
    """Replace the checkpoint at `path`.

    Args:
        path: The file.
        tensors: Tensors of any shape, dtype and device, by name.
        **values: JSON values to keep beside them, by name.

    Raises:
        SetupError: When the disk refuses.
    """
    save_tensors(path, tensors, {name: json.dumps(value, default=plain_json) for name, value in values.items()})


def load_checkpoint(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read what `save_checkpoint` wrote.

    Args:
        path: The file.

    Returns:
        The tensors, on the CPU, and the JSON values, both by name.

    Raises:
        ValueError: When the file is missing or is not as it was written; the message says how.
    """
    tensors, metadata = load_tensors(path)
    return tensors, _decoded(metadata)


def load_checkpoint_values(path: Path) -> dict[str, Any]:
    """Read the JSON values of a checkpoint without its tensors and without testing its checksum.

    Args:
        path: The file.

    Returns:
        The JSON values by name.

    Raises:
        ValueError: When the file is missing or is no checkpoint.
    """
    return _decoded(load_metadata(path))


def _decoded(metadata: Mapping[str, str]) -> dict[str, Any]:
    return {name: json.loads(text) for name, text in metadata.items()}


class CellCheckpoint:
    """The checkpoint of one cell's unfinished work.

    The path alone names the work: a file found there belongs to it.
    """

    def __init__(self, path: Path) -> None:
        """Start the clock of `is_due`; nothing is read or written.

        Args:
            path: The file.
        """
        self.path = path
        self._saved_at = time.monotonic()

    def load(self) -> tuple[dict[str, Tensor], Any] | None:
        """Read the checkpoint.

        Returns:
            The tensors, on the CPU, and the facts; None where there is no file, or where it is damaged (a warning is
            logged and the file removed).
        """
        if not self.path.exists():
            return None
        try:
            tensors, values = load_checkpoint(self.path)
            return tensors, values["facts"]
        except (ValueError, KeyError):
            log.warning("Unfinished work in %s is damaged; that part is computed again.", self.path.parent.name[:12])
            self.path.unlink(missing_ok=True)
            return None

    @property
    def is_due(self) -> bool:
        """Whether enough time has passed since the last save for another to be worth its cost."""
        return time.monotonic() - self._saved_at >= SAVE_INTERVAL_SECONDS

    def save(self, tensors: Mapping[str, Tensor], facts: Any) -> None:
        """Replace the checkpoint.

        Args:
            tensors: Tensors of any shape, dtype and device, by name.
            facts: A JSON value to keep beside them.

        Raises:
            SetupError: When the disk refuses.
        """
        save_checkpoint(self.path, tensors, facts=facts)
        self._saved_at = time.monotonic()
