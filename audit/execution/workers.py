"""What a driver and its workers say to each other, whatever carries it: pipes on one machine, Ray between several."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, TypeAlias

from audit.core.evidence import Evidence
from audit.models.batching import ExecutionLayout
from audit.planning.plan import Task


class EvidenceSource(Protocol):
    """Where a worker finds the evidence of inputs, and a folder for unfinished work: a store, or what came by wire."""

    def get(self, key: str) -> Evidence | None:
        """The evidence of a cell; None where there is none.

        Args:
            key: The cell's key.
        """
        ...

    def scratch(self, key: str) -> Path:
        """The folder for the unfinished work of a cell.

        Args:
            key: The cell's key.
        """
        ...


@dataclass(frozen=True)
class Membership:
    """A worker's part in a cell that several compute together.

    Attributes:
        rank: Its number among them, from 0; the first gives the evidence.
        size: How many they are.
        meeting: Where they meet, as `audit.training.meeting.meeting_at` has it.
    """

    rank: int
    size: int
    meeting: str


@dataclass(frozen=True)
class Job:
    """A cell for a worker.

    Attributes:
        task: The cell to compute.
        layouts: The layouts of the models so far, by `audit.models.autotune.layouts_of`.
        membership: The worker's part in it; None where it computes the cell alone.
    """

    task: Task
    layouts: Mapping[str, ExecutionLayout] = field(default_factory=dict)
    membership: Membership | None = None


@dataclass(frozen=True)
class Ready:
    """A worker can be given a cell: it has read data and model, and they are those of the driver, or helped another.

    Attributes:
        worker: Its number.
    """

    worker: int


@dataclass(frozen=True)
class Progressed:
    """How far a worker's cell is.

    Attributes:
        worker: Its number.
        done: Steps done.
        total: Steps in all.
    """

    worker: int
    done: int
    total: int


@dataclass(frozen=True)
class Computed:
    """A worker's cell is there, whatever its evidence says.

    Attributes:
        worker: Its number.
        evidence: The evidence of the cell.
    """

    worker: int
    evidence: Evidence


@dataclass(frozen=True)
class Faulted:
    """What a worker raised, in place of a cell or while it started.

    Attributes:
        worker: Its number.
        fault: The error, which is to end the run; `Interrupted` of a worker that was told to stop.
    """

    worker: int
    fault: Exception


@dataclass(frozen=True)
class Lost:
    """A worker is gone, and its cell with it.

    Attributes:
        worker: Its number.
        reason: What is known of why, as the end of a sentence.
    """

    worker: int
    reason: str


Event: TypeAlias = Ready | Progressed | Computed | Faulted | Lost


class WorkerPool(Protocol):
    """Workers that can be started, given cells one at a time, and stopped.

    Attributes:
        size: How many there are at once, numbered from 0.
        most_together: How many of them can compute one cell together, each with a device of its own.
    """

    size: int

    @property
    def most_together(self) -> int: ...  # noqa: D102 - an attribute

    def start(self, worker: int) -> None:
        """Start a worker, or another in place of one that was lost; `Ready`, `Faulted` or `Lost` follows.

        Args:
            worker: Its number.
        """
        ...

    def send(self, worker: int, job: Job) -> None:
        """Give a cell to a worker that has none; one event other than `Progressed` follows.

        Args:
            worker: Its number.
            job: The cell.
        """
        ...

    def together(self, idle: Sequence[int], count: int) -> Sequence[int]:
        """Workers that can compute one cell together.

        Args:
            idle: Those to choose from.
            count: How many are wanted.

        Returns:
            That many, or none.
        """
        ...

    def send_together(self, workers: Sequence[int], job: Job) -> None:
        """Give a cell to several workers that have none; one event other than `Progressed` follows of each.

        Args:
            workers: What `together` gave; the first answers with the evidence, the others are `Ready` again.
            job: The cell.
        """
        ...

    def end(self, worker: int) -> None:
        """End a worker at once, without an event.

        Args:
            worker: Its number.
        """
        ...

    def events(self, timeout: float) -> Sequence[Event]:
        """What happened since the last call.

        Args:
            timeout: Seconds to wait where nothing did.
        """
        ...

    def stop(self) -> None:
        """Tell every worker to save its work and stop after the batch it is at."""
        ...

    def close(self) -> None:
        """End all workers at once and leave nothing of them behind."""
        ...
