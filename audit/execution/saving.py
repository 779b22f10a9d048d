"""Evidence on its way to the store, while the driver goes on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from types import TracebackType

from audit.core.errors import SetupError
from audit.core.evidence import Evidence
from audit.planning.plan import Task
from audit.storage.store import Store

WRITERS = 4
"""Threads that write at once. A disk says after some milliseconds that a file is safe, twice for each evidence, and
confirms several files together."""


class Saving:
    """Writes evidence in threads of its own; as a context manager it waits for them at the end."""

    def __init__(self, store: Store) -> None:
        """Nothing is under way yet.

        Args:
            store: Where evidence is kept.
        """
        self._store, self._threads = store, ThreadPoolExecutor(WRITERS, "audit-store")
        self._under_way: dict[Future[Evidence], Task] = {}

    def __enter__(self) -> Saving:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._threads.shutdown()

    @property
    def under_way(self) -> Sequence[Task]:
        """The tasks whose evidence is being written."""
        return list(self._under_way.values())

    def begin(self, task: Task, evidence: Evidence) -> None:
        """Write the evidence of a task, in place of what was there.

        Args:
            task: The task.
            evidence: What was computed.
        """
        self._under_way[self._threads.submit(_store_and_reload, self._store, evidence)] = task

    def finished(self, *, wait_for_one: bool = False) -> Iterator[tuple[Task, Evidence]]:
        """What has been written since the last call.

        Args:
            wait_for_one: Whether to wait until there is something, where something is under way.

        Yields:
            Each task with its evidence, as every later run will read it.

        Raises:
            SetupError: The disk refuses, or does not give back what was written.
        """
        if wait_for_one and self._under_way:
            wait(self._under_way, return_when=FIRST_COMPLETED)
        for future in [future for future in self._under_way if future.done()]:
            yield self._under_way.pop(future), future.result()


def _store_and_reload(store: Store, evidence: Evidence) -> Evidence:
    """The evidence as every later run will read it, so that a resumed run cannot differ from this one."""
    store.put(evidence)
    store.clear_scratch(evidence.cell.key)
    stored = store.get(evidence.cell.key)
    if stored is None:
        raise SetupError(f"Evidence just written to {store.root} cannot be read back; check the disk.")
    return stored
