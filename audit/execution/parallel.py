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
from audit.execution.agenda import MANY_WORKERS
from audit.execution.runner import NextTask, RunCallback
from audit.execution.shared_cell import NOTICE_SECONDS, SharedCell
from audit.execution.workers import Computed, Event, Faulted, Job, Lost, Progressed, Ready, WorkerPool
from audit.models.batching import ExecutionLayout
from audit.planning.plan import MODEL_STUDIES, Task
from audit.results.run_results import Cut
from audit.training.distributed import ExchangeFailed

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
    """Computes cells on the workers of a pool, each on one, or on as many as a training is shared by.

    A worker that is lost is replaced, and its cell is begun elsewhere; one that several share, by all of them. A cell
    that loses its worker `ATTEMPTS` times becomes failed evidence, or ends the run where it makes a model, as nothing
    could follow.

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
    _shared: dict[int, SharedCell] = field(default_factory=dict)
    _idle: list[int] = field(default_factory=list)
    _losses: Counter[str] = field(default_factory=Counter)
    _lost_at_start: int = 0
    _again: deque[Task] = field(default_factory=deque)
    _waiting: list[Task] = field(default_factory=list)
    _was_idle: bool = False

    def compute(self, next_task: NextTask) -> Generator[tuple[Task, Evidence], None, None]:
        """Compute tasks, several at a time.

        Args:
            next_task: Names the tasks.

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
                    yield from self._heed(event, next_task)
                yield from self._end_stragglers(next_task)
            yield from self._wind_down()
        finally:
            self.pool.close()

    def _hand_out(self, next_task: NextTask, finished: Task | None = None) -> bool:
        """Give cells to idle workers; False where there is nothing more to do.

        Args:
            next_task: Names the tasks.
            finished: One whose evidence is about to be taken in.
        """
        while self._idle and (chosen := self._choose(next_task, finished)):
            task, workers = chosen
            self._idle = [worker for worker in self._idle if worker not in workers]
            self._tune(task)
            self._running |= dict.fromkeys(workers, task)
            self.callback.starting(task)
            job = Job(task, dict(self._layouts))
            if len(workers) == 1:
                self.pool.send(workers[0], job)
            else:
                self._shared |= dict.fromkeys(workers, SharedCell(task, set(workers)))
                self.pool.send_together(workers, job)
        return not self._idle or bool(self._running or self._waiting)

    def _choose(self, next_task: NextTask, finished: Task | None) -> tuple[Task, Sequence[int]] | None:
        """The next cell and the workers for it; None where none is ready, or where workers are kept for a shared one.

        A cell for several workers gets those that become free until they are enough, before any other cell: it came
        first as the longest chain waits for it. Where trainings hold so many workers that it must wait for one of
        those, other cells go on.
        """
        for task in self._waiting:
            if workers := self.pool.together(self._idle, task.processes):
                self._waiting.remove(task)
                return task, workers
            if self.pool.size - self._training() >= task.processes:
                return None
        shortest = self._idle[0] == MANY_WORKERS - 1
        following = self._again.popleft() if self._again else next_task(finished, shortest=shortest)
        if following is None:
            return None
        if following.processes == 1:
            return following, self._idle[:1]
        self._waiting.append(following)
        return self._choose(next_task, finished)

    def _training(self) -> int:
        """How many workers make a model, which takes long."""
        ending = {worker for worker, shared in self._shared.items() if shared.done or shared.failure}
        return sum(task.cell.study in MODEL_STUDIES and worker not in ending for worker, task in self._running.items())

    def _tune(self, task: Task) -> None:
        """Have the layout of the task's model chosen here, once, before two workers choose differently."""
        if task.cell.model and task.cell.model not in self._tuned:
            self._tuned.add(task.cell.model)
            self._layouts.update(self.layouts(task.cell.model))

    def _heed(self, event: Event, next_task: NextTask) -> Iterator[tuple[Task, Evidence]]:
        if isinstance(event, Progressed):
            if event.worker in self._running:
                self.callback.progress(self._running[event.worker], event.done, event.total)
            return
        task, shared = self._running.pop(event.worker, None), self._shared.pop(event.worker, None)
        if isinstance(event, Faulted) and not isinstance(event.fault, ExchangeFailed):
            raise event.fault
        if shared is not None:
            shared.note(event)
        if isinstance(event, Lost):
            self._replace(event, at_work=task is not None)
        else:
            self._idle.append(event.worker)
        if isinstance(event, Ready):
            self._lost_at_start = 0
        elif isinstance(event, Computed) and task is not None:
            self._hand_out(next_task, task)  # the worker need not wait until the evidence is on the disk
            yield task, event.evidence
        if shared is not None and shared.lost:
            yield from self._begin_again(shared.task, shared.failure)
        elif shared is None and task is not None and isinstance(event, Lost):
            yield from self._begin_again(task, event.reason)

    def _replace(self, event: Lost, *, at_work: bool) -> None:
        """Start another worker."""
        if event.worker in self._idle:
            self._idle.remove(event.worker)
        elif not at_work:
            self._lost_at_start += 1
            if self._lost_at_start >= ATTEMPTS:
                raise SetupError(f"No worker could be started: {event.reason}.")
        self.pool.start(event.worker)

    def _begin_again(self, task: Task, reason: str) -> Iterator[tuple[Task, Evidence]]:
        """Have a cell computed by other workers; one that lost them too often fails."""
        log.warning("A worker was lost while it computed %s: %s.", task.label, reason)
        self._losses[task.cell.key] += 1
        if self._losses[task.cell.key] < ATTEMPTS:
            self._again.append(task)
        elif task.cell.study in MODEL_STUDIES:
            raise SetupError(
                f"{task.label} lost its worker {ATTEMPTS} times ({reason}), and nothing can follow without that model. "
                "The memory of the machines is the usual cause: use fewer workers with --jobs."
            )
        else:
            yield task, Evidence(task.cell, "failed", reason=_gave_up(reason))

    def _end_stragglers(self, next_task: NextTask) -> Iterator[tuple[Task, Evidence]]:
        """End workers that wait for one that is gone, and do not notice."""
        for shared in set(self._shared.values()):
            for worker in shared.stragglers:
                self.pool.end(worker)
                lost = Lost(worker, f"it waited {NOTICE_SECONDS:.0f} s for one that was gone")
                yield from self._heed(lost, next_task)

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
            if isinstance(event, Faulted) and not isinstance(event.fault, Interrupted | ExchangeFailed):
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
