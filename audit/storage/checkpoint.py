"""What a long computation has finished so far, kept where a kill does not reach it."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from audit.storage.tensor_file import load_tensors, save_tensors

log = logging.getLogger("audit")
SAVE_INTERVAL_SECONDS = 20.0
"""Seconds of work that a kill may cost beside the step under way; what takes less is never written."""


class CellCheckpoint:
    """One file of tensors and JSON facts at `path`, replaced as the work goes on.

    The caller names the work by the path: whatever is found there is its own.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._kept = time.monotonic()

    def read(self) -> tuple[dict[str, Tensor], Any] | None:
        """What was kept, tensors on the CPU; None where nothing was, or what was is damaged (said, and forgotten)."""
        if not self.path.exists():
            return None
        try:
            tensors, notes = load_tensors(self.path)
            return tensors, json.loads(notes["facts"])
        except (ValueError, KeyError):
            log.warning(
                "CellCheckpoint work in %s is damaged; that part is computed again.", self.path.parent.name[:12]
            )
            self.path.unlink(missing_ok=True)
            return None

    @property
    def due(self) -> bool:
        """Whether enough work was done since the last time for `keep` to be worth its cost."""
        return time.monotonic() - self._kept >= SAVE_INTERVAL_SECONDS

    def keep(self, tensors: Mapping[str, Tensor], facts: Any) -> None:
        """Replace what was kept. Raises SetupError when the disk refuses."""
        save_tensors(self.path, tensors, {"facts": json.dumps(facts)})
        self._kept = time.monotonic()
