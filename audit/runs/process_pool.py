"""Workers as processes of this machine, over pipes."""

from __future__ import annotations

import logging
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection, Pipe, wait
from pathlib import Path
from typing import IO, Any, TypeAlias

from audit.execution.workers import Computed, Event, Faulted, Job, Lost, Membership, Progressed, Ready
from audit.runs.forked_worker import ForkedProcess, can_fork, fork_worker
from audit.runs.worker import WorkerOrder

log = logging.getLogger("audit")
_Pipe: TypeAlias = "Connection[Any, Any]"
_PROGRAM = "import sys; sys.path[:] = {path!r}; from audit.runs.process_worker import serve; serve({descriptor})"


@dataclass(frozen=True)
class _Process:
    process: subprocess.Popen[bytes] | ForkedProcess
    pipe: Connection[Any, Any]
    errors: IO[bytes]


class ProcessPool:
    """Workers in processes of their own.

    Not `multiprocessing`: its children import the caller's main module again, and inherit no environment of their own.

    Attributes:
        size: How many there are.
    """

    def __init__(self, order: WorkerOrder, size: int, cards: Sequence[str] = (), *, forks: bool = False) -> None:
        """Nothing is started yet.

        Args:
            order: What every worker is started with.
            size: How many there are.
            cards: Names of accelerators, as CUDA_VISIBLE_DEVICES has them; worker after worker gets one. Empty where
                every worker sees all there are.
            forks: Whether a worker may begin as a copy of this process; one that takes the place of another never does.
        """
        self.size, self._order, self._cards = size, order, cards
        self._forks = forks and can_fork(order.threads, str(order.machine["device"]))
        self._started: set[int] = set()
        self._workers: dict[int, _Process] = {}
        self._meetings: list[Path] = []

    @property
    def most_together(self) -> int:
        """How many workers can compute one cell together: NCCL wants a card for each."""
        return min(self.size, len(self._cards)) if self._cards else self.size

    @property
    def processes(self) -> Mapping[int, int]:
        """The process of each worker, by its number."""
        return {number: worker.process.pid for number, worker in self._workers.items()}

    def start(self, worker: int) -> None:
        """Start a worker.

        Args:
            worker: Its number.
        """
        ours, theirs = Pipe(duplex=True)
        errors = tempfile.TemporaryFile()
        process = self._forked if self._forks and worker not in self._started else self._spawned
        self._started.add(worker)
        self._workers[worker] = _Process(process(worker, ours, theirs, errors), ours, errors)
        theirs.close()
        self._tell(worker, self._order)

    def _forked(self, worker: int, ours: _Pipe, theirs: _Pipe, errors: IO[bytes]) -> ForkedProcess:
        return fork_worker(theirs, [ours, *(other.pipe for other in self._workers.values())], errors)

    def _spawned(self, worker: int, ours: _Pipe, theirs: _Pipe, errors: IO[bytes]) -> subprocess.Popen[bytes]:
        environment = {**os.environ, "OMP_NUM_THREADS": str(self._order.threads)}
        if self._cards:
            environment["CUDA_VISIBLE_DEVICES"] = self._cards[self._card(worker)]
        return subprocess.Popen(
            [sys.executable, "-P", "-c", _PROGRAM.format(path=sys.path, descriptor=theirs.fileno())],
            pass_fds=(theirs.fileno(),),
            stdin=subprocess.DEVNULL,
            stdout=errors,
            stderr=errors,
            env=environment,
            start_new_session=True,
        )

    def send(self, worker: int, job: Job) -> None:
        """Give a cell to a worker.

        Args:
            worker: Its number.
            job: The cell.
        """
        self._tell(worker, job)

    def together(self, idle: Sequence[int], count: int) -> Sequence[int]:
        """Workers that can compute one cell together: those of different cards, where there are any.

        Args:
            idle: Those to choose from.
            count: How many are wanted.

        Returns:
            That many, or none.
        """
        by_device = {self._card(worker) if self._cards else worker: worker for worker in reversed(idle)}
        chosen = sorted(by_device.values())[:count]
        return chosen if len(chosen) == count else ()

    def _card(self, worker: int) -> int:
        return worker % len(self._cards)

    def send_together(self, workers: Sequence[int], job: Job) -> None:
        """Give a cell to several workers, which meet at a file.

        Args:
            workers: Their numbers.
            job: The cell.
        """
        self._meetings.append(Path(tempfile.mkdtemp(prefix="audit-meeting-")))
        meeting = (self._meetings[-1] / "file").as_uri()
        for rank, worker in enumerate(workers):
            self.send(worker, replace(job, membership=Membership(rank, len(workers), meeting)))

    def events(self, timeout: float) -> Sequence[Event]:
        """What happened since the last call.

        Args:
            timeout: Seconds to wait where nothing did.
        """
        by_pipe = {worker.pipe: number for number, worker in self._workers.items()}
        spoken = [pipe for pipe in wait(list(by_pipe), timeout) if isinstance(pipe, Connection)]
        events = [event for pipe in spoken for event in self._read(by_pipe[pipe], pipe)]
        return events

    def stop(self) -> None:
        """Tell every worker to save its work and stop."""
        for number in self._workers:
            self._tell(number, "stop")

    def close(self) -> None:
        """End all workers, with whatever they started."""
        for number in list(self._workers):
            self._end(number)
        for folder in self._meetings:
            shutil.rmtree(folder, ignore_errors=True)
        self._meetings.clear()

    def end(self, worker: int) -> None:
        """End a worker at once, with whatever it started.

        Args:
            worker: Its number.
        """
        self._end(worker)

    def _tell(self, worker: int, message: Any) -> None:
        with suppress(OSError):  # a worker that is gone is noticed where its messages are read
            self._workers[worker].pipe.send(message)

    def _read(self, number: int, pipe: Connection[Any, Any]) -> Sequence[Event]:
        try:
            word, about = pipe.recv()
        except (EOFError, OSError):
            return [Lost(number, self._end(number))]
        if word == "log":
            log.log(*about)
            return []
        if word == "progress":
            return [Progressed(number, *about)]
        if word == "ready":
            return [Ready(number)]
        return [Computed(number, about) if word == "computed" else Faulted(number, about)]

    def _end(self, number: int) -> str:
        """End a worker; what is known of why it ended, where it had."""
        worker = self._workers.pop(number)
        worker.pipe.close()
        with suppress(subprocess.TimeoutExpired):
            worker.process.wait(timeout=0.5 if worker.process.poll() is None else None)
        code = worker.process.poll()
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(worker.process.pid, signal.SIGKILL)
        worker.process.wait()
        worker.errors.seek(0)
        lines = worker.errors.read()[-2000:].decode(errors="replace").strip().splitlines()
        worker.errors.close()
        return _how_it_ended(code, lines[-1] if lines else "")


def _how_it_ended(code: int | None, said: str) -> str:
    if code is not None and code < 0:
        with suppress(ValueError):
            name = signal.Signals(-code).name
            return f"its process was ended by {name}" + (", as a machine out of memory does" if code == -9 else "")
    return f"its process ended with code {code}" + (f" ({said})" if said else "")
