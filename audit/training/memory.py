"""Passes of a training in little memory: where it runs out, the same pass is made again, holding less at a time."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Protocol, TypeVar

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks

from audit.core.note import note
from audit.core.seeding import global_rng_state, set_global_rng_state
from audit.core.types import Images, PassCount
from audit.models.batching import is_out_of_memory

_log = logging.getLogger("audit")
_T = TypeVar("_T")
_CPU = torch.device("cpu")
_SMALL = 1 << 16
"""Values of a tensor that is not worth its way to the computer's memory and back."""
IN_PARTS = note(
    "training_in_parts",
    "Memory ran out in training, so images went through the net fewer at a time than the batch holds. Sums were added "
    "in another order: a machine with more memory may give weights that differ as rounding makes them.",
)


class PassMemory:
    """How the passes of a net in training fit the memory of its device.

    Attributes:
        offloads: Whether what a backward pass needs waits in the computer's memory, which changes no bit.
        most: Most images that the net is asked about at a time, in eval mode (False) and in train mode (True).
    """

    def __init__(self) -> None:
        """Memory that has not run out yet."""
        self.offloads = False
        self.most: dict[bool, int] = {}
        self._asked = (False, 1)

    def parts(self, count: int, *, training: bool) -> list[slice]:
        """The parts in which the net is asked about images.

        Args:
            count: The number of images.
            training: Whether the net is in train mode.
        """
        most = min(self.most.get(training, count), count) or 1
        self._asked = (training, most)
        return [slice(start, start + most) for start in range(0, max(1, count), most)]

    def keeping(self) -> AbstractContextManager[object]:
        """A block in which what a backward pass needs is kept where it is planned to be."""
        return saved_tensors_hooks(_to_host, _from_host) if self.offloads else nullcontext()

    def use_less(self, net: NetInTraining) -> bool:
        """Plan for less memory than at present; False where nothing is left to try.

        What changes no bit comes first. A half of a batch is another training's where layers in train mode draw for
        the batch, or mix its images as batch norm does.

        Args:
            net: The net, whose last pass did not fit.
        """
        training, size = self._asked
        if torch.is_grad_enabled() and not self.offloads and net.device.type != _CPU.type:
            self.offloads = True
            _log.warning("Out of memory: what a backward pass needs waits in the computer's memory from now on.")
            return True
        if size == 1 or (training and net.needs_whole_batch()):
            return False
        self.most[training] = size // 2
        _log.warning("Out of memory: at most %d images at a time go through the net that is trained.", size // 2)
        return True


class NetInTraining(Protocol):
    """What `fitting` asks of a net.

    Attributes:
        memory: How its passes fit.
        passes: Examples forwarded and back-propagated so far.
        training: Whether it is in train mode.
    """

    memory: PassMemory
    passes: PassCount
    training: bool

    @property
    def device(self) -> torch.device:
        """Where it is."""

    @property
    def inner(self) -> nn.Module:
        """The module whose buffers a pass in train mode may change."""

    def needs_whole_batch(self) -> bool:
        """Whether, in train mode, a batch must not be taken in parts."""


def fitting(net: nn.Module, compute: Callable[[], _T]) -> _T:
    """What `compute` gives; where memory runs out, it is called again with the net planned to use less.

    Buffers of the net, passes counted and global generators are put back between: a pass that failed leaves no trace.

    Args:
        net: The net that `compute` asks; one that is not in training computes as it is.
        compute: A pass forward, or forward and back, that may be made again.

    Raises:
        RuntimeError: Memory ran out, and nothing is left to try; or another fault.
    """
    if not isinstance(getattr(net, "memory", None), PassMemory):
        return compute()
    trained: NetInTraining = net  # type: ignore[assignment]
    while True:
        before = _Before(trained)
        try:
            with trained.memory.keeping():
                return compute()
        except (RuntimeError, MemoryError) as fault:
            if not is_out_of_memory(fault):
                raise
            before.restore()
            if not trained.memory.use_less(trained):
                raise


def draws_or_mixes(net: NetInTraining, answers: Callable[[Images], Tensor], images: Images) -> bool:
    """Whether the net, as it is, draws from the global generators, or answers otherwise beside other images.

    Args:
        net: The net, left as it was.
        answers: Asks it: images (N, C, H, W) to scores (N, K).
        images: A few images.
    """
    if len(images) < 2:
        return True
    before = _Before(net)
    try:
        with torch.no_grad():
            together = answers(images)
            drew = any(not torch.equal(was, now) for was, now in zip(before.rng, _rng(net), strict=True))
            alone = answers(images[:1])
    except ValueError:  # batch norm takes no single image
        return True
    finally:
        before.restore()
    return drew or not torch.allclose(together[:1], alone, rtol=1e-3, atol=1e-3 * float(together.abs().max()))


class _Before:
    """What a pass may change, as it was before."""

    def __init__(self, net: NetInTraining) -> None:
        self.net, self.passes, self.rng = net, net.passes, _rng(net)
        self.buffers = [buffer.clone() for buffer in net.inner.buffers()] if net.training else []

    @torch.no_grad()
    def restore(self) -> None:
        self.net.passes = self.passes
        set_global_rng_state(self.net.device, self.rng)
        for buffer, value in zip(self.net.inner.buffers() if self.buffers else (), self.buffers, strict=True):
            buffer.copy_(value)


def _rng(net: NetInTraining) -> tuple[Tensor, ...]:
    return global_rng_state(net.device)


def _to_host(tensor: Tensor) -> tuple[torch.device, Tensor]:
    stays = isinstance(tensor, nn.Parameter) or tensor.numel() < _SMALL
    return tensor.device, tensor if stays else tensor.detach().to(_CPU)


def _from_host(kept: tuple[torch.device, Tensor]) -> Tensor:
    device, tensor = kept
    return tensor.to(device)
