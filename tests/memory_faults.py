"""Every kind of memory fault, and a layer that raises it going forward or going back."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

MEMORY_FAULTS: dict[str, Exception] = {
    "of torch on CUDA": torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
    "of Python": MemoryError(),
    "of the processor": RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to ..."),
    "of Windows": RuntimeError("[enforce fail] not enough memory: you tried to allocate 123 bytes."),
    "of CUDA itself": RuntimeError("CUDA error: out of memory"),
    "of cuDNN": RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
    "of cuBLAS": RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    "of MPS": RuntimeError("MPS backend out of memory (MPS allocated: 9.06 GB, other allocations: 1.00 GB)"),
}


class Starved(nn.Module):
    """The identity, which runs out of memory above a number of images.

    Attributes:
        raised: How often it did.
    """

    def __init__(
        self, most: int, *faults: Exception, going_back: bool = False, when: Callable[[bool], bool] = lambda _: True
    ) -> None:
        """A layer that holds `most` images and raises the faults in turn; `when` tells of its mode whether it does."""
        super().__init__()
        self.most, self.faults, self.going_back, self.when = most, faults, going_back, when
        self.raised = 0

    def forward(self, images: Tensor) -> Tensor:
        if not self.when(self.training):
            return images
        if self.going_back:
            return _RunsOutGoingBack.apply(images, self)
        self.require(len(images))
        return images

    def require(self, images: int) -> None:
        """Raise the fault above the limit."""
        if images > self.most:
            self.raised += 1
            raise self.faults[(self.raised - 1) % len(self.faults)]


class _RunsOutGoingBack(torch.autograd.Function):
    @staticmethod
    def forward(context: Any, images: Tensor, layer: Starved) -> Tensor:
        context.layer = layer
        return images.clone()

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        context.layer.require(len(gradients[0]))
        return gradients[0], None
