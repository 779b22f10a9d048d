"""The processes that train one net together: each learns from its share of a batch, and gradients are averaged."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar, cast

import torch
from torch import Tensor, distributed

from audit.config import TrainingConfig
from audit.core.errors import UsageError

_T = TypeVar("_T")


@dataclass(frozen=True)
class WorkerGroup:
    """This process among those that train together; a group of one exchanges nothing.

    `from_rank0`, `gather` and `all_reduce_mean` are collective: all processes must call them in the same order. All
    then hold the same weights, bit for bit, after every step.

    Attributes:
        rank: The number of this process, from 0.
        world_size: The number of processes.
        threads: CPU threads that rank 0 takes while the others wait for it; 0 for what it has.
    """

    rank: int = 0
    world_size: int = 1
    threads: int = 0

    def shard(self, order: Tensor) -> Tensor:
        """Select this process's share of the examples: the same ones, in whatever order they come.

        Args:
            order: Indices of examples, int64 (N,).

        Returns:
            Those of this process in the same order, int64 (about N / world_size,).
        """
        return order[order % self.world_size == self.rank]

    def from_rank0(self, compute: Callable[[], _T]) -> _T:
        """Call `compute` in rank 0 alone and give its value to all processes.

        Args:
            compute: Gives a value that can be pickled.

        Returns:
            The value, in every process.
        """
        if self.world_size == 1:
            return compute()
        values: list[_T | None] = [self._with_all_threads(compute) if self.rank == 0 else None]
        distributed.broadcast_object_list(values, src=0)
        return cast(_T, values[0])

    def _with_all_threads(self, compute: Callable[[], _T]) -> _T:
        before = torch.get_num_threads()
        torch.set_num_threads(self.threads or before)
        try:
            return compute()
        finally:
            torch.set_num_threads(before)

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

    @torch.no_grad()
    def all_reduce_mean(self, tensors: Sequence[Tensor]) -> None:
        """Replace each tensor by its mean over all processes, in one exchange.

        Args:
            tensors: Tensors of one dtype and device, of any shapes; the same in every process.
        """
        if self.world_size == 1:
            return
        flat = torch.cat([tensor.flatten() for tensor in tensors])
        distributed.all_reduce(flat)
        flat.div_(self.world_size)
        for tensor, mean in zip(tensors, torch.split(flat, [tensor.numel() for tensor in tensors]), strict=True):
            tensor.copy_(mean.view_as(tensor))


def require_shareable(settings: TrainingConfig, *, has_teacher: bool) -> None:
    """Check that the workers of a training can share its batches.

    Args:
        settings: The number of workers, the batch size and the recipe.
        has_teacher: Whether the recipe learns from another model, which only one process can hold.

    Raises:
        UsageError: When they cannot.
    """
    if settings.workers > 1 and has_teacher:
        raise UsageError(f"Recipe {settings.recipe!r} learns from another model in one process: set workers to 1.")
    if settings.batch_size % settings.workers:
        raise UsageError(
            f"A batch of {settings.batch_size} images cannot be shared evenly by {settings.workers} workers: make "
            "batch_size a multiple of workers."
        )
