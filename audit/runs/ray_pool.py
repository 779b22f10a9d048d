"""Workers on Ray: on this machine, or on those of a cluster."""

from __future__ import annotations

import logging
import pickle
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any

from audit.core.errors import one_line
from audit.execution.workers import Computed, Event, Faulted, Job, Lost, Membership, Progressed, Ready
from audit.runs.ray_actors import RayActors
from audit.runs.worker import WorkerOrder
from audit.storage.store import Store

log = logging.getLogger("audit")
POLL_SECONDS = 1.0
"""So often workers are asked how far they are, where they are few."""
_QUESTIONS_A_SECOND = 64
"""How many workers are asked in a second at most: a question takes the driver a third of a millisecond."""
SILENCE_SECONDS = 45.0
"""A worker that does not answer that for so long is lost. Ray itself takes a machine that went without a word for dead
after about a minute."""
_ANSWER_SECONDS = 30.0


@dataclass
class _Actor:
    handle: Any
    pending: Any
    busy: bool = False
    asked: Any = None
    asked_at: float = field(default_factory=time.monotonic)


class RayPool:
    """Workers that are actors of Ray, each with cores of its own and, where the model runs on a GPU, one of those.

    Attributes:
        size: How many there are.
    """

    def __init__(self, order: WorkerOrder, actors: RayActors) -> None:
        """Have the workers read data and model; they are started when they are asked for a cell.

        Args:
            order: What every worker is given.
            actors: The actors, whose cores are as many as the threads of the order; closed with the pool.
        """
        self._ray, self._source, self.size = actors.ray, actors, actors.size
        self._store, self._packed = Store(order.store), pickle.dumps(order)
        self._actors: dict[int, _Actor] = {}
        self._sent: dict[str, Any] = {}
        self._begun = [self._set_up() for _ in range(self.size)]

    def start(self, worker: int) -> None:
        """Count on one of the workers that were told to read data and model, or on another in place of a lost one.

        Args:
            worker: Its number.
        """
        self._actors[worker] = self._begun.pop() if self._begun else self._set_up()

    def _set_up(self) -> _Actor:
        handle = self._source.take()
        return _Actor(handle, handle.set_up.remote(self._packed))

    def send(self, worker: int, job: Job) -> None:
        """Give a cell to a worker, with references to what it reads.

        Args:
            worker: Its number.
            job: The cell.
        """
        actor = self._actors[worker]
        references = {key: ref for key in job.task.needs if (ref := self._reference(key)) is not None}
        actor.pending, actor.busy = actor.handle.compute.remote(job, references), True

    @property
    def most_together(self) -> int:
        """How many workers can compute one cell together: all, as each has a device of its own."""
        return self.size

    def together(self, idle: Sequence[int], count: int) -> Sequence[int]:
        """Workers that can compute one cell together.

        Args:
            idle: Those to choose from.
            count: How many are wanted.

        Returns:
            That many, or none.
        """
        return idle[:count] if len(idle) >= count else ()

    def send_together(self, workers: Sequence[int], job: Job) -> None:
        """Give a cell to several workers, which meet at a port of the first one's machine.

        Args:
            workers: Their numbers.
            job: The cell.
        """
        meeting = ""
        with suppress(self._ray.exceptions.RayError):  # the first is gone: its cell says so
            meeting = self._ray.get(self._actors[workers[0]].handle.open_meeting.remote(), timeout=_ANSWER_SECONDS)
        for rank, worker in enumerate(workers):
            self.send(worker, replace(job, membership=Membership(rank, len(workers), meeting)))

    def end(self, worker: int) -> None:
        """End a worker at once.

        Args:
            worker: Its number.
        """
        actor = self._actors.pop(worker)
        with suppress(Exception):
            self._ray.kill(actor.handle)

    def events(self, timeout: float) -> Sequence[Event]:
        """What happened since the last call.

        Args:
            timeout: Seconds to wait where nothing did.
        """
        self._ask()
        waiting = [ref for actor in self._actors.values() for ref in (actor.pending, actor.asked) if ref is not None]
        if not waiting:
            time.sleep(timeout)
            return []
        first, _ = self._ray.wait(waiting, num_returns=1, timeout=timeout)
        there = set(self._ray.wait(waiting, num_returns=len(waiting), timeout=0)[0] if first else [])
        events: list[Event] = []
        for number, actor in list(self._actors.items()):
            if actor.asked in there:
                events += self._progress(number, actor)
            if actor.pending in there:
                events.append(self._answer(number, actor))
            elif actor.asked is not None and time.monotonic() - actor.asked_at > SILENCE_SECONDS:
                events.append(self._lose(number, f"it gave no sign for {SILENCE_SECONDS:.0f} s"))
        return events

    def stop(self) -> None:
        """Tell every worker to save its work and stop."""
        for actor in self._actors.values():
            actor.handle.stop.remote()

    def close(self) -> None:
        """End all workers, and Ray where it was started for this run."""
        for actor in (*self._actors.values(), *self._begun):
            with suppress(Exception):
                self._ray.kill(actor.handle)
        self._actors.clear()
        self._begun.clear()
        self._sent.clear()
        self._source.close()

    def _reference(self, key: str) -> Any:
        """A reference to stored evidence, which is put into Ray's memory once; None where there is none."""
        if key not in self._sent and (evidence := self._store.get(key)) is not None:
            self._sent[key] = self._ray.put(evidence)
        return self._sent.get(key)

    def _ask(self) -> None:
        now, pause = time.monotonic(), max(POLL_SECONDS, len(self._actors) / _QUESTIONS_A_SECOND)
        for actor in self._actors.values():
            if actor.busy and actor.asked is None and now - actor.asked_at >= pause:
                actor.asked, actor.asked_at = actor.handle.progress.remote(), now

    def _progress(self, number: int, actor: _Actor) -> Sequence[Event]:
        asked, actor.asked, actor.asked_at = actor.asked, None, time.monotonic()
        try:
            (done, total), records = self._ray.get(asked)
        except self._ray.exceptions.RayError:  # what is pending says why
            return []
        for level, text in records:
            log.log(level, text)
        return [Progressed(number, done, total)] if total else []

    def _answer(self, number: int, actor: _Actor) -> Event:
        pending, actor.pending = actor.pending, None
        try:
            answer = self._ray.get(pending)
        except self._ray.exceptions.RayTaskError as fault:
            return Faulted(number, fault)
        except self._ray.exceptions.RayError as fault:
            return self._lose(number, one_line(fault))
        actor.busy = False
        if isinstance(answer, Exception):
            return Faulted(number, answer)
        return Ready(number) if answer is None else Computed(number, answer)

    def _lose(self, number: int, reason: str) -> Lost:
        self.end(number)
        return Lost(number, reason)
