"""The processes that train one net together: each learns from its share of a batch, and gradients are averaged."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar, cast

import torch
from torch import Tensor, distributed

from audit.config import TrainingConfig
from audit.core.errors import UsageError

T = TypeVar("T")


@dataclass(frozen=True)
class WorkerGroup:
    """This process is number `rank` of `size`; alone, nothing is exchanged.

    What exchanges (`first`, `gathered`, `average`) must be called by all members in the same order. All then
    hold the same weights, bit for bit, after every step.
    """

    rank: int = 0
    size: int = 1
    threads: int = 0
    """Those this process takes while the others wait for it; 0 for what it has."""

    def share(self, order: Tensor) -> Tensor:
        """This member's part of the positions `order`, int64 (N,): in whatever order, the same examples."""
        return order[order % self.size == self.rank]

    def first(self, find: Callable[[], T]) -> T:
        """What `find` gives in the first process, which alone calls it."""
        if self.size == 1:
            return find()
        told: list[T | None] = [self._with_all_threads(find) if self.rank == 0 else None]
        distributed.broadcast_object_list(told, src=0)
        return cast(T, told[0])

    def _with_all_threads(self, find: Callable[[], T]) -> T:
        own = torch.get_num_threads()
        torch.set_num_threads(self.threads or own)
        try:
            return find()
        finally:
            torch.set_num_threads(own)

    def gathered(self, own: T) -> list[T]:
        """Everyone's, by rank, in the first process; empty in the others."""
        if self.size == 1:
            return [own]
        everyone: list[T | None] | None = [None] * self.size if self.rank == 0 else None
        distributed.gather_object(own, everyone, dst=0)
        return cast(list[T], everyone or [])

    @torch.no_grad()
    def average(self, tensors: Sequence[Tensor]) -> None:
        """Replace each by its mean over the team, in one exchange."""
        if self.size == 1:
            return
        flat = torch.cat([tensor.flatten() for tensor in tensors])
        distributed.all_reduce(flat)
        flat.div_(self.size)
        for tensor, mean in zip(tensors, torch.split(flat, [tensor.numel() for tensor in tensors]), strict=True):
            tensor.copy_(mean.view_as(tensor))


def require_shareable(settings: TrainingConfig, *, taught: bool) -> None:
    """Raises UsageError for a training that its workers cannot share; `taught` by another model, none can."""
    if settings.workers > 1 and taught:
        raise UsageError(f"Recipe {settings.recipe!r} learns from another model in one process: set workers to 1.")
    if settings.batch_size % settings.workers:
        raise UsageError(
            f"A batch of {settings.batch_size} images cannot be shared evenly by {settings.workers} workers: make "
            "batch_size a multiple of workers."
        )
