"""The processes that train one net together: each learns from some shares of every batch."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any, TypeVar, cast

import torch
from torch import Tensor, distributed

from audit.config import TrainingConfig
from audit.core.errors import SetupError, UsageError

_T = TypeVar("_T")
_CPU = torch.device("cpu")
_ADVICE = 8
"""The number of shares that messages advise, where it is enough."""


class ExchangeFailed(SetupError):
    """A process of a training waited for another that is gone; from the last checkpoint the training can go on."""


@dataclass(frozen=True)
class WorkerGroup:
    """This process among those that train together; a group of one exchanges nothing.

    The methods but `shares` are collective: all processes must call them in the same order. All then hold the same
    values, bit for bit.

    Attributes:
        rank: The number of this process, from 0.
        world_size: The number of processes, a power of two.
    """

    rank: int = 0
    world_size: int = 1

    def shares(self, count: int, rank: int | None = None) -> range:
        """The shares of each batch that a process learns from: as many as each other has, side by side.

        Args:
            count: The number of shares, a multiple of `world_size`.
            rank: The process; this one where None.
        """
        each = count // self.world_size
        first = each * (self.rank if rank is None else rank)
        return range(first, first + each)

    def from_rank0(self, compute: Callable[[], _T]) -> _T:
        """Call `compute` in rank 0 alone and give its value to all processes.

        Args:
            compute: Gives a value that can be pickled.

        Returns:
            The value, in every process.
        """
        if self.world_size == 1:
            return compute()
        values: list[_T | None] = [compute() if self.rank == 0 else None]
        distributed.broadcast_object_list(values, src=0, device=_CPU)
        return cast(_T, values[0])

    def scatter(self, make: Callable[[int], _T]) -> _T:
        """Call `make` in rank 0 for each process, and give each process its own value.

        The values are made and sent one after another: no two of them are in memory at once.

        Args:
            make: Gives of a rank a value that can be pickled.

        Returns:
            The value for this process.
        """
        if self.rank:
            values: list[_T | None] = [None]
            distributed.recv_object_list(values, src=0, device=_CPU)
            return cast(_T, values[0])
        for rank in range(1, self.world_size):
            distributed.send_object_list([make(rank)], dst=rank, device=_CPU)
        return make(0)

    def gather(self, value: _T) -> list[_T]:
        """Collect one value of each process in rank 0.

        Args:
            value: This process's value, which can be pickled.

        Returns:
            All values by rank in rank 0; an empty list in the others.
        """
        if self.world_size == 1:
            return [value]
        values: list[_T | None] | None = [None] * self.world_size if self.rank == 0 else None
        distributed.gather_object(value, values, dst=0)
        return cast(list[_T], values or [])

    def total(self, counts: Sequence[int]) -> list[int]:
        """Add whole numbers of all processes.

        Args:
            counts: Those of this process.
        """
        if self.world_size == 1:
            return list(counts)
        numbers = torch.tensor(counts, dtype=torch.int64, device="cpu")
        distributed.all_reduce(numbers)
        return [int(number) for number in numbers]

    @torch.no_grad()
    def pairwise_sum(self, vector: Tensor) -> Tensor:
        """Add a vector of each process, neighbours first, so that the sum is the same in any number of processes.

        Each process adds one part of the vectors of all: a process sends and receives about twice the vector, as it
        does when the order of the sum is left open.

        Args:
            vector: Of one axis; of the same length, dtype and device in every process.
        """
        if self.world_size == 1:
            return vector
        length = len(vector)
        part = -(-length // self.world_size)
        padded = torch.cat([vector, vector.new_zeros(part * self.world_size - length)])
        received = torch.empty_like(padded)
        distributed.all_to_all_single(received, padded)
        summed = add_pairwise(list(received.view(self.world_size, part)))
        distributed.all_gather(list(padded.view(self.world_size, part)), summed)
        return padded[:length]


def add_pairwise(vectors: Sequence[Tensor]) -> Tensor:
    """Add vectors, neighbours first, then neighbouring sums, and so on.

    Args:
        vectors: A power of two of them, of one shape.
    """
    while len(vectors) > 1:
        vectors = [first + second for first, second in zip(vectors[::2], vectors[1::2], strict=True)]
    return vectors[0]


class PairwiseSum:
    """The sum that `add_pairwise` gives, of vectors that come one after another.

    Only one partial sum of each size is kept: for n vectors, at most 1 + log2(n) are in memory.
    """

    def __init__(self) -> None:
        """The sum of nothing."""
        self._sums: list[tuple[int, Tensor]] = []

    def add(self, vector: Tensor) -> None:
        """Add the next vector.

        Args:
            vector: Of the shape of those before.
        """
        count = 1
        while self._sums and self._sums[-1][0] == count:
            _, before = self._sums.pop()
            count, vector = 2 * count, before + vector
        self._sums.append((count, vector))

    @property
    def value(self) -> Tensor:
        """The sum of a power of two of vectors."""
        return reduce(torch.add, (vector for _, vector in self._sums))


def launched_by_torchrun() -> bool:
    """Whether torchrun has started this process together with others."""
    return "TORCHELASTIC_RUN_ID" in os.environ and int(os.environ.get("WORLD_SIZE", "1")) > 1


def processes_of(settings: TrainingConfig) -> int:
    """The number of processes that a training is shared by: those of torchrun, or as many as `nproc` starts.

    Args:
        settings: The configuration of the training.

    Raises:
        UsageError: When both say a number.
    """
    if not launched_by_torchrun():
        return settings.nproc
    started = int(os.environ["WORLD_SIZE"])
    if settings.nproc not in (1, started):
        raise UsageError(
            f"torchrun has started {started} processes, and nproc asks for {settings.nproc}: leave --nproc out under "
            "torchrun."
        )
    return started


def why_one_process(facts: Mapping[str, Any]) -> str:
    """What a recipe does that several processes, or several shares of a batch, cannot do; "" where they can.

    Args:
        facts: The facts of the recipe.
    """
    if facts.get("teacher"):
        return "learns from another model"
    if facts.get("proves"):
        return "scales the first weights by its first batch"
    return "trains a detector" if facts.get("task") == "detection" else ""


def require_shareable(settings: TrainingConfig, processes: int, *, alone: str = "") -> None:
    """Check that the processes of a training can share its batches.

    Args:
        settings: The shares of a batch, the batch size and the recipe.
        processes: The number of processes.
        alone: See `why_one_process`.

    Raises:
        UsageError: When they cannot.
    """
    shares = settings.shares
    if shares & (shares - 1):
        raise UsageError(f"A batch has {shares} shares, where a power of two was expected, such as {_ADVICE}.")
    if (shares > 1 or processes > 1) and alone:
        raise UsageError(f"Recipe {settings.recipe!r} {alone}, in one process: leave --nproc and --shares out.")
    if shares % processes:
        advised = max(_ADVICE, 1 << (processes - 1).bit_length())
        fitting = [str(1 << power) for power in range(max(shares, _ADVICE if shares == 1 else 1).bit_length())]
        several = f"{', '.join(fitting[:-1])} or {fitting[-1]} processes"
        if shares == 1:
            several += f" with --shares {_ADVICE}"
        each = f"--shares {advised}" if not advised % processes else several
        raise UsageError(
            f"{processes} processes cannot divide the {shares} share{'s' * (shares > 1)} of a batch evenly: give "
            f"{each}. The number of shares decides the weights; the number of processes does not."
        )
    if settings.batch_size % shares:
        raise UsageError(
            f"A batch of {settings.batch_size} images cannot be cut into {shares} equal shares: make batch_size a "
            "multiple of shares."
        )


def require_cards(processes: int, device: torch.device) -> None:
    """Check that the processes of a training have a device each on this machine.

    Args:
        processes: The number of processes on this machine.
        device: Where they are to train: "cpu", or "cuda" for a GPU each.

    Raises:
        SetupError: When they do not.
        UsageError: When one GPU of several is named.
    """
    require_exchanges(processes, device)
    if device.type == "cuda" and torch.cuda.device_count() < processes:
        raise SetupError(
            f"{processes} processes need a GPU each, and this machine has {torch.cuda.device_count()}: give --nproc "
            "that number, or --device cpu."
        )


def require_exchanges(processes: int, device: torch.device) -> None:
    """Check that processes can train together on such a device, wherever each finds its own.

    Args:
        processes: The number of processes.
        device: Where they are to train: "cpu", or "cuda" for a GPU each.

    Raises:
        SetupError: When they cannot.
        UsageError: When one GPU of several is named.
    """
    if not distributed.is_available():
        raise SetupError("Several processes need torch.distributed, which this torch lacks: leave --nproc out.")
    if device.type not in ("cpu", "cuda"):
        raise SetupError(f"Several processes train on CPUs or NVIDIA GPUs, not on {device.type}: leave --nproc out.")
    if device.type == "cuda" and device.index:
        raise UsageError(f"{processes} processes take the GPUs 0 to {processes - 1}, and --device {device} names one.")
