"""Workers on Ray: on this machine, or on those of a cluster."""

from __future__ import annotations

import logging
import pickle
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any

from audit.core.errors import SetupError, UsageError, one_line
from audit.execution.workers import Computed, Event, Faulted, Job, Lost, Membership, Progressed, Ready
from audit.runs.ray_connection import connect
from audit.runs.ray_worker import CONTROL, RayWorker
from audit.runs.worker import WorkerOrder
from audit.storage.store import Store

log = logging.getLogger("audit")
POLL_SECONDS = 1.0
"""So often workers are asked how far they are."""
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

    def __init__(self, order: WorkerOrder, device: str, address: str, jobs: int | None) -> None:
        """Connect; no worker is started yet.

        Args:
            order: What every worker is started with.
            device: Kind of device that models run on.
            address: Of the cluster, as HOST:PORT or auto; empty for Ray on this machine alone.
            jobs: How many workers; None for as many as there is room for.

        Raises:
            SetupError: Ray is not installed, does not answer, or has no room.
            UsageError: There is no room for so many workers.
        """
        self._ray, self._connected_here = connect(address)
        self._order, self._store = order, Store(order.store)
        self._packed = pickle.dumps(order)
        self._resources = {"num_cpus": order.threads, "num_gpus": 1 if device == "cuda" else 0}
        self._actor_class = _actor_class(self._ray, self._resources)
        self._actors: dict[int, _Actor] = {}
        self._sent: dict[str, Any] = {}
        try:
            self.size = self._room(jobs)
        except BaseException:
            self.close()
            raise

    def start(self, worker: int) -> None:
        """Start a worker wherever there is room.

        Args:
            worker: Its number.
        """
        handle = self._actor_class.remote(self._packed)
        self._actors[worker] = _Actor(handle, handle.set_up.remote())

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
        for actor in self._actors.values():
            with suppress(Exception):
                self._ray.kill(actor.handle)
        self._actors.clear()
        self._sent.clear()
        if self._connected_here:
            self._ray.shutdown()

    def _room(self, jobs: int | None) -> int:
        """How many workers there are to be, where they find room."""
        cores, cards = self._resources["num_cpus"], self._resources["num_gpus"]
        nodes = [node["Resources"] for node in self._ray.nodes() if node["Alive"]]
        rooms = [min(node.get("CPU", 0) // cores, node.get("GPU", 0) if cards else float("inf")) for node in nodes]
        room, needs = int(sum(rooms)), f"{cores} cores{' and a GPU' if cards else ''}"
        if not room:
            raise SetupError(
                f"No machine of the Ray cluster has {needs} for a worker: set OMP_NUM_THREADS to fewer cores"
                f"{', or use --device cpu' if cards else ''}."
            )
        if jobs is not None and jobs > room:
            raise UsageError(f"--jobs {jobs}: the Ray cluster has room for {room} workers of {needs} each.")
        return jobs or room

    def _reference(self, key: str) -> Any:
        """A reference to stored evidence, which is put into Ray's memory once; None where there is none."""
        if key not in self._sent and (evidence := self._store.get(key)) is not None:
            self._sent[key] = self._ray.put(evidence)
        return self._sent.get(key)

    def _ask(self) -> None:
        now = time.monotonic()
        for actor in self._actors.values():
            if actor.busy and actor.asked is None and now - actor.asked_at >= POLL_SECONDS:
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


def _actor_class(ray: Any, resources: Mapping[str, Any]) -> Any:
    control = ray.method(concurrency_group=CONTROL)
    methods = {name: control(getattr(RayWorker, name)) for name in ("progress", "stop")}
    options = {"max_restarts": 0, "max_task_retries": 0, "concurrency_groups": {CONTROL: 1}, **resources}
    return ray.remote(**options)(type("RayWorker", (RayWorker,), methods))
