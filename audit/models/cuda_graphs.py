"""Work on one NVIDIA card recorded as CUDA graphs: replaying one launches all of its kernels at once."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import torch

_T = TypeVar("_T")
_SOUND = (2, 13)
"""The first torch whose memory is in order after a recording that failed: before, none that it kept was ever given back
(pytorch/pytorch#180395)."""


def can_record(device: torch.device) -> bool:
    """Whether work on a device can be recorded.

    Args:
        device: The device.
    """
    return device.type == "cuda" and tuple(map(int, torch.__version__.split(".")[:2])) >= _SOUND


@contextmanager
def refused_waits() -> Iterator[None]:
    """A block in which making the host wait for a card raises RuntimeError, as far as torch knows of it."""
    before = torch.cuda.get_sync_debug_mode()
    with warnings.catch_warnings():  # that it does not know of every wait
        warnings.filterwarnings("ignore", message="Synchronization debug mode")
        torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode(before)


class CudaGraphs:
    """Recordings of one card that share their memory, which is given back with the last of them.

    One whose values must outlive the replay of another has to write them into tensors that were made outside.

    Args:
        device: The card.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        self._memory = torch.cuda.graph_pool_handle()

    def rehearse(self, run: Callable[[], _T]) -> _T:
        """Run what is to be recorded, on the stream of the recordings, which makes libraries ready for it.

        Args:
            run: The work.

        Returns:
            What it gives.

        Raises:
            RuntimeError: It makes the host wait for the card, which a recording cannot.
        """
        current = torch.cuda.current_stream(self.device)
        self._stream.wait_stream(current)
        try:
            with refused_waits(), torch.cuda.stream(self._stream):
                return run()
        finally:
            current.wait_stream(self._stream)

    def record(self, run: Callable[[], object]) -> Callable[[], None]:
        """Record work without doing it.

        Args:
            run: The work, rehearsed before; it reads and writes tensors that stay where they are.

        Returns:
            Does the work again, on what those tensors then hold.

        Raises:
            RuntimeError: It cannot be recorded, or memory ran out.
        """
        graph = torch.cuda.CUDAGraph()
        # torch.cuda.graph leaves its own stream current where ending the capture raises; the outer block does not.
        with torch.cuda.device(self.device), torch.cuda.stream(torch.cuda.current_stream(self.device)):
            with torch.cuda.graph(graph, self._memory, self._stream, capture_error_mode="thread_local"):
                run()
        return graph.replay
