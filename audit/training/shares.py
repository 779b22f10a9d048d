"""The shares of a batch: each is learnt from by itself, and their gradients are added in one order.

The weights then depend on the number of shares, which the configuration says, and not on how many processes take them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

import torch
from torch import Tensor, nn

from audit.core.seeding import derive_seed, seed_global_rng
from audit.training.distributed import PairwiseSum, WorkerGroup

_T = TypeVar("_T")


class BatchShares:
    """Does a piece of work for each of this process's shares of one batch, as if each were alone.

    A batch of one share is worked on as it is: nothing is copied or seeded again.
    """

    def __init__(
        self, net: nn.Module, workers: WorkerGroup, count: int, device: torch.device, *, seed: int, step: int
    ) -> None:
        """A batch at its start, with the layers that draw seeded for it.

        Args:
            net: The net in training.
            workers: This process among the others.
            count: The number of shares of a batch.
            device: Where the net is.
            seed: The seed of the training.
            step: The number of the batch.
        """
        self.net, self.workers, self.count, self.device = net, workers, count, device
        self._seed, self._pieces = (seed, "layers", step), 0
        seed_global_rng(device, derive_seed(*self._seed))

    def each(self, work: Callable[[int], _T]) -> list[_T]:
        """Work on each share, all with the same buffers of the net and with draws of its own.

        Args:
            work: Is given the position of a share among those of this process.

        Returns:
            What it gave, by position.
        """
        if self.count == 1:
            return [work(0)]
        buffers = [buffer.clone() for buffer in self.net.buffers()]
        self._pieces += 1
        results = []
        for position, share in enumerate(self.workers.shares(self.count)):
            if position:
                self._restore(buffers)
            seed_global_rng(self.device, derive_seed(*self._seed, self._pieces, share))
            results.append(work(position))
        return results

    def mean(self, work: Callable[[int], Sequence[Tensor]]) -> list[Tensor]:
        """The mean over all shares of all processes of tensors, and of the net's buffers of floating point.

        Args:
            work: Gives tensors of a share, as many and of the same shapes for each.

        Returns:
            The means of its tensors; those of the buffers are put into the net.
        """
        if self.count == 1:
            return list(work(0))
        shapes: list[Tensor] = []
        total = PairwiseSum()

        def flat(position: int) -> None:
            nonlocal shapes
            shapes = [*work(position), *self._statistics()]
            total.add(torch.cat([_real(tensor).flatten() for tensor in shapes]))

        self.each(flat)
        mean = self.workers.pairwise_sum(total.value) / self.count
        parts = torch.split(mean, [_real(tensor).numel() for tensor in shapes])
        means = [_like(part, tensor) for part, tensor in zip(parts, shapes, strict=True)]
        statistics = self._statistics()
        with torch.no_grad():
            for buffer, value in zip(statistics, means[len(means) - len(statistics) :], strict=True):
                buffer.copy_(value)
        return means[: len(means) - len(statistics)]

    def _statistics(self) -> list[Tensor]:
        return [buffer for buffer in self.net.buffers() if buffer.is_floating_point()]

    @torch.no_grad()
    def _restore(self, values: Sequence[Tensor]) -> None:
        for buffer, value in zip(self.net.buffers(), values, strict=True):
            buffer.copy_(value)


def _real(tensor: Tensor) -> Tensor:
    return torch.view_as_real(tensor.detach()) if tensor.is_complex() else tensor.detach()


def _like(part: Tensor, tensor: Tensor) -> Tensor:
    if tensor.is_complex():
        return torch.view_as_complex(part.view(*tensor.shape, 2)).to(tensor.dtype)
    return part.view(tensor.shape).to(tensor.dtype)
