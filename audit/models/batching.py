"""Forwards in batches that fit the memory: on out-of-memory the batch is halved, and the answer is the same."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import nn

from audit.core.errors import SetupError
from audit.models.precision import SearchPrecision

_log = logging.getLogger("audit")
_T = TypeVar("_T")
_SIGNS_OF_NO_MEMORY = (
    "DefaultCPUAllocator",
    "not enough memory",
    "out of memory",
    "CUDNN_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "HIPBLAS_STATUS_ALLOC_FAILED",
)
"""What says so in the messages of the CPU's allocator, of CUDA, HIP, MPS and XPU, and of NVIDIA's libraries."""


@dataclass
class ExecutionLayout:
    """How images are handed to a model. It changes the cost, not the answer.

    Attributes:
        channels_last: Whether images and weights lie in memory with the channels last.
        batch_size: Examples in a forward.
        folded: Whether searches ask a copy whose batch norm is folded (see `audit.models.search_form`).
        replayed: The most images of a search whose steps are replayed from CUDA graphs (see
            `audit.models.replayed_steps`); 0 where all are taken plainly.
        search_precision: What searches may compute in (see `audit.models.search_form`); what they find is judged in
            float32.
    """

    channels_last: bool = True
    batch_size: int = 128
    folded: bool = False
    replayed: int = 0
    search_precision: SearchPrecision = "float32"
    whole = False  # no field: nothing that is chosen or stored

    @contextmanager
    def whole_batches(self) -> Iterator[None]:
        """A block in which no batch is halved: where memory runs out that is raised."""
        before, self.whole = self.whole, True
        try:
            yield
        finally:
            self.whole = before

    @classmethod
    def default(cls, device: torch.device, *, channels_last: bool = True, largest: int = 0) -> ExecutionLayout:
        """The layout to begin with.

        On a CPU it has 64 images for each thread, up to 128: with one thread a small net answers 64 in a sixth less
        time each than 128, whose activations leave its cache.

        Args:
            device: Where the model runs.
            channels_last: Whether it can take channels last.
            largest: The most images that the net takes in one forward, its attribute `largest_batch`; 0 for any number.
        """
        usual = min(128, 64 * torch.get_num_threads()) if device.type == "cpu" else 128
        return cls(channels_last, min(usual, largest) if largest else usual)

    def halve(self) -> None:
        """Use half the batch from now on.

        Raises:
            SetupError: When the batch is a single example.
        """
        if self.batch_size == 1:
            raise SetupError(
                "Out of memory with a single image: use a smaller image size, a smaller model or a larger device."
            )
        self.batch_size = max(1, self.batch_size // 2)
        _log.warning("Out of memory: the batch is now %d examples; answers do not change.", self.batch_size)


def set_memory_format(net: nn.Module, *, channels_last: bool) -> None:
    """Lay out the weights of two-dimensional convolutions; those of others have no such order.

    Args:
        net: The net, whose weights are changed in place.
        channels_last: Whether the channels lie last in memory.
    """
    memory_format = torch.channels_last if channels_last else torch.contiguous_format
    for tensor in (*net.parameters(), *net.buffers()):
        if tensor.ndim == 4 and tensor.layout == torch.strided:
            tensor.data = tensor.data.to(memory_format=memory_format)


def in_batches(total: int, layout: ExecutionLayout, compute: Callable[[slice], _T]) -> Iterator[_T]:
    """Call a function on slices of range(total), halving the batch size when memory runs out, see `whole_batches` too.

    Args:
        total: Number of examples.
        layout: Gives the batch size, and gets the smaller one.
        compute: Gives the answer for a slice.

    Yields:
        The answers in order.
    """
    start = 0
    while start < total:
        stop = min(total, start + layout.batch_size)
        try:
            answer = compute(slice(start, stop))
        except (RuntimeError, MemoryError) as fault:
            if layout.whole or not is_out_of_memory(fault):
                raise
            layout.halve()
            continue
        yield answer
        start = stop


def is_out_of_memory(fault: BaseException) -> bool:
    """Whether a fault says that memory ran out: an accelerator's, that of its libraries, or the processor's.

    Only torch's own allocator on CUDA raises a class of its own; the others raise a RuntimeError that says so.

    Args:
        fault: What was raised.
    """
    if isinstance(fault, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(fault, RuntimeError) and any(sign in str(fault) for sign in _SIGNS_OF_NO_MEMORY)
