"""Steps of a search replayed from CUDA graphs, where launching a step's kernels takes longer than running them.

A step of Auto-PGD is 167 small kernels, of which a small net has 25; replayed they are one launch. A graph reads and
writes tensors that stay where they are, of a size that stays: examples are copied into buffers, and their number is
filled up to the next power of two with copies of the last one.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, TypeAlias

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

from audit.core.pass_count import PassCount
from audit.core.seeding import global_rng_state, set_global_rng_state
from audit.models.cuda_graphs import CudaGraphs
from audit.models.forward_watch import OperationWatch
from audit.models.under_test import ModelUnderTest

_log = logging.getLogger("audit")

ExampleRows: TypeAlias = Mapping[str, Tensor]
"""Tensors by name, one row an example."""
RowStep: TypeAlias = Callable[[ExampleRows], ExampleRows]
"""`rows -> rows`: asks the model and moves on, each example by itself; names, shapes and types stay."""


class _Recording(NamedTuple):
    """A step of one size.

    Attributes:
        replay: Takes the step of what the buffers hold.
        passes: What it costs.
        read: What it reads beside the buffers. Held here, a table that a net makes anew for another number of images
            stays where the recording reads it.
    """

    replay: Callable[[], None]
    passes: PassCount
    read: tuple[Tensor, ...]


class ReplayedSteps:
    """Takes the steps of a search from recordings, one for each size, made when the size first comes up.

    A step that cannot be recorded is taken plainly, to the same answer: one that waits for the card, that finds no
    memory, or whose model draws random numbers. What is filled up is not counted as passes.

    Args:
        model: The model that the steps ask; its batch is the largest size.
    """

    def __init__(self, model: ModelUnderTest) -> None:
        self.model = model
        self._graphs: CudaGraphs | None = None
        self._buffers: dict[str, Tensor] = {}
        self._recordings: dict[int, _Recording | None] = {}

    def advance(self, step: RowStep, rows: ExampleRows, times: int, *, most: int) -> ExampleRows:
        """The rows after some steps.

        Args:
            step: The step, which does the same at every call.
            rows: What is known of each example.
            times: How many steps, at least 1.
            most: The most examples whose steps are replayed; those of more are taken plainly.

        Returns:
            The rows; they may lie where the next call writes.
        """
        size = self._size(_count(rows), most)
        if size and size not in self._recordings:
            rows, times = self._begin(step, rows, size), times - 1
        recording = self._recordings.get(size)
        if recording is None or not times:
            for _ in range(times):
                rows = step(rows)
            return rows
        count = _count(rows)
        self._write(rows, size)
        for _ in range(times):
            recording.replay()
        self.model.charge(_share(recording.passes, times * count, size))
        return self._rows(count)

    def records(self, size: int) -> bool:
        """Whether steps of a size have been recorded.

        Args:
            size: Examples of the step, filled up.
        """
        return self._recordings.get(size) is not None

    def _size(self, count: int, most: int) -> int:
        """How many rows stand for so many examples; 0 where their steps are taken plainly."""
        most = min(most, self.model.layout.batch_size)
        return min(1 << (count - 1).bit_length(), most) if count <= most and self.model.module.draws == 1 else 0

    def _begin(self, step: RowStep, rows: ExampleRows, size: int) -> ExampleRows:
        """The rows after one step, which is recorded for the following ones if it can be."""
        if self._graphs is None or size > _count(self._buffers):
            self._graphs, self._buffers, self._recordings = CudaGraphs(self.model.device), {}, {}
        self._recordings[size] = None
        count, before, random = _count(rows), self.model.passes, global_rng_state(self.model.device)
        try:
            with self.model.layout.whole_batches():
                after = self._graphs.rehearse(lambda: step(_filled(rows, size)))
            _require_same_form(rows, after)
            if not all(map(torch.equal, random, global_rng_state(self.model.device))):
                raise RuntimeError("the model draws random numbers")
        except Exception as fault:  # a user's net raises what it likes, and does so again where it is not the rehearsal
            _log.debug("Steps of %d images are not replayed: %s", size, fault)
            set_global_rng_state(self.model.device, random)
            self._set_passes(before)
            return step(rows)
        self._set_passes(before + _share(self.model.passes - before, count, size))
        try:
            self._recordings[size] = self._recorded(self._graphs, step, after, size)
        except Exception as fault:
            _log.debug("Steps of %d images are not replayed: %s", size, fault)
            return {name: tensor[:count] for name, tensor in after.items()}
        return self._rows(count)

    def _recorded(self, graphs: CudaGraphs, step: RowStep, rows: ExampleRows, size: int) -> _Recording:
        """The recording of a step of rows, which are in the buffers afterwards."""
        if not self._buffers:
            self._buffers = {name: torch.empty_like(tensor) for name, tensor in rows.items()}
        self._write(rows, size)
        before = self.model.passes
        try:
            with self.model.layout.whole_batches(), _Read() as watch:
                replay = graphs.record(lambda: self._write(step(self._rows(size)), size))
            return _Recording(replay, self.model.passes - before, tuple(watch.read.values()))
        finally:
            self._set_passes(before)

    def _rows(self, count: int) -> dict[str, Tensor]:
        return {name: buffer[:count] for name, buffer in self._buffers.items()}

    def _write(self, rows: ExampleRows, size: int) -> None:
        """Put rows into the buffers, filled up. One may lie in the buffer of another, which is written as well."""
        places = {buffer.untyped_storage().data_ptr() for buffer in self._buffers.values()}
        sources = {name: _apart(rows[name], buffer, places) for name, buffer in self._buffers.items()}
        for name, source in sources.items():
            buffer, count = self._buffers[name], len(source)
            if source.data_ptr() != buffer.data_ptr():
                buffer[:count].copy_(source)
                if count < size:
                    buffer[count:size].copy_(source[-1:])

    def _set_passes(self, passes: PassCount) -> None:
        self.model.meter.reset()
        self.model.charge(passes)


class _Read(OperationWatch):  # type: ignore[no-untyped-call]
    """Keeps what operations read and none of them made.

    Attributes:
        read: The tensors, by where they lie.
    """

    def __init__(self) -> None:
        """Nothing read yet."""
        super().__init__()
        self.read: dict[int, Tensor] = {}
        self._made: set[int] = set()

    def __torch_dispatch__(
        self, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run an operation and note what it read."""
        output = function(*args, **(kwargs or {}))
        for tensor in (leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)):
            if (place := tensor.untyped_storage().data_ptr()) not in self._made:
                self.read.setdefault(place, tensor.detach())
        made = {leaf.untyped_storage().data_ptr() for leaf in tree_leaves(output) if isinstance(leaf, Tensor)}
        self._made |= made - self.read.keys()
        return output


def _apart(tensor: Tensor, buffer: Tensor, places: set[int]) -> Tensor:
    """The tensor, copied where it lies in another buffer than its own."""
    elsewhere = tensor.untyped_storage().data_ptr() in places and tensor.data_ptr() != buffer.data_ptr()
    return tensor.clone() if elsewhere else tensor


def _count(rows: ExampleRows) -> int:
    return len(next(iter(rows.values()), ()))


def _filled(rows: ExampleRows, size: int) -> dict[str, Tensor]:
    """Copies of the rows and then of the last one, up to a size."""
    return {
        name: torch.cat([tensor, tensor[-1:].expand(size - len(tensor), *tensor.shape[1:])])
        for name, tensor in rows.items()
    }


def _require_same_form(before: ExampleRows, after: ExampleRows) -> None:
    forms = [{name: (tensor.dtype, tensor.shape[1:]) for name, tensor in rows.items()} for rows in (before, after)]
    if forms[0] != forms[1]:
        raise RuntimeError(f"a step makes of {forms[0]} other tensors: {forms[1]}")


def _share(passes: PassCount, part: int, whole: int) -> PassCount:
    return PassCount(passes.forwards * part // whole, passes.backwards * part // whole)
