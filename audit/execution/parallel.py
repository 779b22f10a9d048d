"""Compute cells on several workers at once; this process hands them out, and alone writes the store."""

from __future__ import annotations

import logging
import time
from collections import Counter, deque
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from audit.core.errors import Interrupted, SetupError
from audit.core.evidence import Evidence
from audit.core.note import Note, note
from audit.execution.runner import RunCallback
from audit.execution.workers import Computed, Event, Faulted, Job, Lost, Progressed, Ready, WorkerPool
from audit.models.batching import ExecutionLayout
from audit.planning.plan import MODEL_STUDIES, Task
from audit.results.run_results import Cut

log = logging.getLogger("audit")
ATTEMPTS = 3
"""How often a cell is begun whose workers are lost: machines fail, and a cell that takes its worker with it every time
must not be tried for ever."""
FINISH_SECONDS = 5.0
"""How long cells may go on to their end after Ctrl-C, before their workers are told to save what they have."""
SAVE_SECONDS = 20.0
"""How long workers may take to save it, before they are ended."""
_POLL = 0.5


@dataclass
class ParallelExecutor:
    """Computes cells on the workers of a pool.

    A worker that is lost is replaced, and its cell is begun elsewhere. A cell that loses its worker `ATTEMPTS` times
    becomes failed evidence, or ends the run where it makes a model, as nothing could follow.

    Attributes:
        pool: The workers.
        layouts: Gives the layout of a model that exists, by its identity; every worker then uses that one.
        callback: Called when a task starts, and with its progress.
        stopping: What ends the run now; empty while nothing does.
        idle: Called once, when every worker is at work for the first time: for what the end of the run will need.
    """

    pool: WorkerPool
    layouts: Callable[[str], Mapping[str, ExecutionLayout]] = lambda identity: {}
    callback: RunCallback = field(default_factory=RunCallback)
    stopping: Callable[[], Cut] = lambda: ""
    idle: Callable[[], None] = lambda: None
    _layouts: dict[str, ExecutionLayout] = field(default_factory=dict)
    _tuned: set[str] = field(default_factory=set)
    _running: dict[int, Task] = field(default_factory=dict)
    _idle: list[int] = field(default_factory=list)
    _losses: Counter[str] = field(default_factory=Counter)
    _lost_at_start: int = 0
    _again: deque[Task] = field(default_factory=deque)
    _was_idle: bool = False

    def compute(self, next_task: Callable[[], Task | None]) -> Generator[tuple[Task, Evidence], None, None]:
        """Compute tasks, several at a time.

        Args:
            next_task: Gives a task that is ready; None where there is none before another is done.

        Yields:
            Each task with its evidence, as it comes.

        Raises:
            Interrupted: When the run was stopped.
            AuditError: What a worker raised that ends a run, or that it could not be started.
        """
        first = next_task()
        if first is None:
            return
        self._again.append(first)
        try:
            for worker in range(self.pool.size):
                self.pool.start(worker)
            while not self.stopping():
                if not self._hand_out(next_task):
                    return
                if not self._was_idle and len(self._running) == self.pool.size:
                    self._was_idle = True
                    self.idle()
                for event in self.pool.events(_POLL):
                    yield from self._heed(event)
            yield from self._wind_down()
        finally:
            self.pool.close()

    def _hand_out(self, next_task: Callable[[], Task | None]) -> bool:
        """Give every idle worker a cell; False where there is nothing more to do."""
        while self._idle:
            task = self._again.popleft() if self._again else next_task()
            if task is None:
                return bool(self._running)
            worker = self._idle.pop(0)
            self._tune(task)
            self._running[worker] = task
            self.callback.starting(task)
            self.pool.send(worker, Job(task, dict(self._layouts)))
        return True

    def _tune(self, task: Task) -> None:
        """Have the layout of the task's model chosen here, once, before two workers choose differently."""
        if task.cell.model and task.cell.model not in self._tuned:
            self._tuned.add(task.cell.model)
            self._layouts.update(self.layouts(task.cell.model))

    def _heed(self, event: Event) -> Iterator[tuple[Task, Evidence]]:
        if isinstance(event, Progressed):
            if event.worker in self._running:
                self.callback.progress(self._running[event.worker], event.done, event.total)
            return
        task = self._running.pop(event.worker, None)
        if isinstance(event, Faulted):
            raise event.fault
        if isinstance(event, Lost):
            yield from self._replace(event, task)
            return
        self._idle.append(event.worker)
        if isinstance(event, Ready):
            self._lost_at_start = 0
        elif isinstance(event, Computed) and task is not None:
            yield task, event.evidence

    def _replace(self, event: Lost, task: Task | None) -> Iterator[tuple[Task, Evidence]]:
        """Start another worker, and begin its cell anew; a cell that lost too many of them fails."""
        if task is None:
            self._lost_at_start += 1
            if self._lost_at_start >= ATTEMPTS:
                raise SetupError(f"No worker could be started: {event.reason}.")
        else:
            log.warning("A worker was lost while it computed %s: %s.", task.label, event.reason)
            self._losses[task.cell.key] += 1
            if self._losses[task.cell.key] < ATTEMPTS:
                self._again.append(task)
            elif task.cell.study in MODEL_STUDIES:
                raise SetupError(
                    f"{task.label} lost its worker {ATTEMPTS} times ({event.reason}), and nothing can follow without "
                    "that model. The memory of the machines is the usual cause: use fewer workers with --jobs."
                )
            else:
                yield task, Evidence(task.cell, "failed", reason=_gave_up(event.reason))
        self.pool.start(event.worker)

    def _wind_down(self) -> Iterator[tuple[Task, Evidence]]:
        """Take in what is finished soon, have the rest saved, and end."""
        finishing = FINISH_SECONDS if self.stopping() == "user" else 0.0
        for stop, seconds in ((False, finishing), (True, SAVE_SECONDS)):
            deadline = time.monotonic() + seconds
            if stop and self._running:
                self.pool.stop()
            while self._running and (left := deadline - time.monotonic()) > 0:
                yield from self._last_words(self.pool.events(min(left, _POLL)))
        raise Interrupted("Stopped as asked; what was finished is kept.")

    def _last_words(self, events: Sequence[Event]) -> Iterator[tuple[Task, Evidence]]:
        for event in events:
            task = None if isinstance(event, Progressed) else self._running.pop(event.worker, None)
            if isinstance(event, Faulted) and not isinstance(event.fault, Interrupted):
                raise event.fault
            if isinstance(event, Computed) and task is not None:
                yield task, event.evidence


def _gave_up(reason: str) -> Note:
    return note(
        "worker_lost",
        "The worker that computed this was lost {attempts} times: {reason}.",
        attempts=ATTEMPTS,
        reason=reason,
    )
