"""Workers on Ray: on this machine, or on those of a cluster."""

from __future__ import annotations

import logging
import pickle
import time
from collections.abc import Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field, replace
from queue import Empty, SimpleQueue
from typing import Any

from audit.execution.workers import Computed, Event, Faulted, Job, Lost, Membership, Progressed, Ready
from audit.runs.ray_actors import RayActors
from audit.runs.ray_faults import cause_of
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
    set_up: Any
    number: int = -1
    busy: bool = False
    asked: bool = False
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
        self._answers: SimpleQueue[tuple[_Actor, str, Future[Any]]] = SimpleQueue()
        self._looked_at = 0.0
        self._begun = [self._set_up() for _ in range(self.size)]

    def start(self, worker: int) -> None:
        """Count on one of the workers that were told to read data and model, or on another in place of a lost one.

        Args:
            worker: Its number.
        """
        actor = self._actors[worker] = self._begun.pop() if self._begun else self._set_up()
        actor.number = worker
        self._expect(actor, "answer", actor.set_up)

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
        actor.busy = True
        self._expect(actor, "answer", actor.handle.compute.remote(job, references))

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
        answers, events = [], self._ask()
        with suppress(Empty):
            answers.append(self._answers.get(timeout=0 if events else timeout))
            while True:
                answers.append(self._answers.get_nowait())
        for actor, word, future in answers:
            if self._actors.get(actor.number) is actor:
                events += self._progress(actor, future) if word == "progress" else [self._answer(actor, future)]
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

    def _expect(self, actor: _Actor, word: str, reference: Any) -> None:
        """Have what an actor answers put with the other answers: looking at all actors would cost the more the more
        there are."""
        reference.future().add_done_callback(lambda future: self._answers.put((actor, word, future)))

    def _ask(self) -> list[Event]:
        """Ask the workers how far they are; those that were asked long ago are lost."""
        now, lost = time.monotonic(), list[Event]()
        if now - self._looked_at < POLL_SECONDS / 4:
            return lost
        self._looked_at, pause = now, max(POLL_SECONDS, len(self._actors) / _QUESTIONS_A_SECOND)
        for actor in list(self._actors.values()):
            if actor.asked and now - actor.asked_at > SILENCE_SECONDS:
                lost.append(self._lose(actor.number, f"it gave no sign for {SILENCE_SECONDS:.0f} s"))
            elif actor.busy and not actor.asked and now - actor.asked_at >= pause:
                actor.asked, actor.asked_at = True, now
                self._expect(actor, "progress", actor.handle.progress.remote())
        return lost

    def _progress(self, actor: _Actor, future: Future[Any]) -> Sequence[Event]:
        actor.asked, actor.asked_at = False, time.monotonic()
        try:
            (done, total), records = future.result()
        except self._ray.exceptions.RayError:  # what the worker answers says why
            return []
        for level, text in records:
            log.log(level, text)
        return [Progressed(actor.number, done, total)] if total else []

    def _answer(self, actor: _Actor, future: Future[Any]) -> Event:
        try:
            answer = future.result()
        except self._ray.exceptions.RayTaskError as fault:
            return Faulted(actor.number, fault)
        except self._ray.exceptions.RayError as fault:
            return self._lose(actor.number, cause_of(fault))
        actor.busy = False
        if isinstance(answer, Exception):
            return Faulted(actor.number, answer)
        return Ready(actor.number) if answer is None else Computed(actor.number, answer)

    def _lose(self, number: int, reason: str) -> Lost:
        self.end(number)
        return Lost(number, reason)
