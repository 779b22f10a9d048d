"""Work on one NVIDIA card recorded as CUDA graphs: replaying one launches all of its kernels at once."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import torch

_T = TypeVar("_T")


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
        current, waits = torch.cuda.current_stream(self.device), torch.cuda.get_sync_debug_mode()
        self._stream.wait_stream(current)
        torch.cuda.set_sync_debug_mode("error")
        try:
            with torch.cuda.stream(self._stream):
                return run()
        finally:
            torch.cuda.set_sync_debug_mode(waits)
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
