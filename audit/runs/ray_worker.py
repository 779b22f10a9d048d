"""A worker on Ray: an actor that computes one cell at a time and says meanwhile how far it is.

Nothing heavy is imported before the process is prepared: libraries read their settings when they are loaded.
"""

from __future__ import annotations

import logging
import pickle
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

CONTROL = "control"
"""The group of methods that answer while a cell is computed."""


class RayWorker:
    """What runs in the actor's process; `audit.runs.ray_actors` makes an actor of it."""

    def __init__(self) -> None:
        """Nothing is imported or read yet."""
        self._worker: Any = None
        self._state: tuple[int, int] = (0, 0)
        self._records: list[tuple[int, str]] = []
        self._stopped = threading.Event()
        self._meeting: Any = None

    def prepare(self) -> None:
        """Import what a worker needs; what is missing is said when the worker is set up."""
        from audit.core.startup import prepare_process

        prepare_process()
        with suppress(ImportError):
            import audit.runs.worker  # noqa: F401

    def set_up(self, packed: bytes) -> Exception | None:
        """Read data and model, after `prepare`.

        Args:
            packed: A pickled `WorkerOrder`.

        Returns:
            Why that cannot be, None where it can.
        """
        from audit.runs.process_worker import portable
        from audit.runs.worker import Worker

        logging.getLogger("audit").addHandler(_Kept(self._records))
        order = pickle.loads(packed)
        try:
            self._evidence = _SentEvidence(_seen_folder_of_unfinished_work(order))
            self._worker = Worker(order, self._evidence, self._progressed)
        except Exception as fault:
            return portable(fault)
        if self._stopped.is_set():
            self._worker.stop()
        return None

    def open_meeting(self) -> str:
        """Listen for workers that compute a cell together with this one.

        Returns:
            The address where they meet.
        """
        import ray

        from audit.training.meeting import open_meeting

        self._meeting, address = open_meeting(ray.util.get_node_ip_address())
        return address

    def compute(self, job: Any, inputs: Mapping[str, Any]) -> Any:
        """Compute a cell.

        Args:
            job: A `Job`.
            inputs: By key, references to the evidence that the cell reads.

        Returns:
            Its evidence, None where another worker gives it, or the error that ends the run: Ray would wrap one that is
            raised.
        """
        from audit.runs.process_worker import portable

        self._state = (0, 0)
        try:
            with self._evidence.sent(inputs):
                return self._worker.compute(job)
        except Exception as fault:
            return portable(fault)

    def progress(self) -> tuple[tuple[int, int], list[tuple[int, str]]]:
        """Steps done and in all of the cell under way, and the warnings since the last call."""
        records = list(self._records)
        del self._records[: len(records)]
        return self._state, records

    def stop(self) -> None:
        """Have the cell under way saved and ended."""
        self._stopped.set()
        if self._worker is not None:
            self._worker.stop()

    def _progressed(self, done: int, total: int) -> None:
        self._state = (done, total)


class _SentEvidence:
    """The evidence that came with a cell, and a folder for unfinished work."""

    def __init__(self, seen: Path | None) -> None:
        """Where nothing is `seen`, a cell has a folder that goes with it: nobody would find it again."""
        self.seen = seen
        self.folder = Path()
        self.references: Mapping[str, Any] = {}

    @contextmanager
    def sent(self, references: Mapping[str, Any]) -> Iterator[None]:
        """A block in which a cell is computed.

        Args:
            references: By key, references to the evidence that the cell reads.
        """
        self.references = references
        if self.seen is not None:
            self.folder = self.seen
            yield
        else:
            with tempfile.TemporaryDirectory(prefix="audit-unfinished-", ignore_cleanup_errors=True) as folder:
                self.folder = Path(folder)
                yield

    def get(self, key: str) -> Any:
        """The evidence of a cell, fetched when it is asked for.

        Args:
            key: The cell's key.
        """
        import ray

        return ray.get(self.references[key]) if key in self.references else None

    def scratch(self, key: str) -> Path:
        """The folder for the unfinished work of a cell.

        Args:
            key: The cell's key.
        """
        return self.folder / key


class _Kept(logging.Handler):
    """Keeps warnings until the driver asks."""

    def __init__(self, records: list[tuple[int, str]]) -> None:
        super().__init__(logging.WARNING)
        self.records = records

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a record's text.

        Args:
            record: The record.
        """
        self.records.append((record.levelno, record.getMessage()))


def _seen_folder_of_unfinished_work(order: Any) -> Path | None:
    """In the run folder where this machine sees it, so that a cell goes on wherever it is begun again."""
    with suppress(OSError):
        if (order.store.parent / ".owner").read_text() == order.owner:
            return Path(order.store) / "scratch"
    return None
