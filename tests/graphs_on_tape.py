"""A stand-in for CUDA graphs on the processor: what runs once is recorded, operation by operation, and replayed.

As on a card a recording does nothing, freezes every number that Python knew, reads and writes the tensors it was made
with, and refuses what makes the host wait. Replaying runs the same operations of ATen on the same tensors.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, TypeVar

import pytest
import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_map_only

from audit.models.forward_watch import OperationWatch

_T = TypeVar("_T")
_WAITS = {"_local_scalar_dense", "nonzero", "equal", "masked_select", "unique_consecutive", "_unique2"}


class _Refusing(OperationWatch):
    """Refuses what makes the host wait for a card."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        by_mask = name in {"index", "index_put", "index_put_"} and any(
            isinstance(index, Tensor) and index.dtype == torch.bool for index in args[1]
        )
        if name in _WAITS or by_mask:
            raise RuntimeError(f"{name}: called a synchronizing CUDA operation")
        return func(*args, **(kwargs or {}))


class _Recorder(_Refusing):
    def __init__(self) -> None:
        super().__init__()
        self.operations: list[tuple[Any, Any, Any, Any]] = []
        self.made: set[int] = set()
        self.before: dict[int, tuple[Tensor, Tensor]] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        for written in _written(func, args, kwargs or {}):
            place = written.untyped_storage().data_ptr()
            if place not in self.made and place not in self.before:
                whole = written.detach().as_strided((written.untyped_storage().nbytes() // written.itemsize,), (1,), 0)
                self.before[place] = whole, whole.clone()
        outcome = super().__torch_dispatch__(func, types, args, kwargs)
        given = {t.untyped_storage().data_ptr() for t in tree_leaves((args, kwargs)) if isinstance(t, Tensor)}
        made = [
            t for t in tree_leaves(outcome) if isinstance(t, Tensor) and t.untyped_storage().data_ptr() not in given
        ]
        self.made.update(tensor.untyped_storage().data_ptr() for tensor in made)
        kept = tree_map_only(Tensor, lambda tensor: tensor.detach(), (args, kwargs or {}, outcome))
        self.operations.append((func, *kept))
        return outcome

    def undo(self) -> None:
        """Nothing was done: what was written is as before, and what was made is no number."""
        for whole, copy in self.before.values():
            whole.copy_(copy)
        for _, _, _, outcome in self.operations:
            for tensor in tree_leaves(outcome):
                if isinstance(tensor, Tensor) and tensor.untyped_storage().data_ptr() in self.made:
                    if tensor.is_floating_point():
                        tensor.fill_(torch.nan)


class Tape:
    """Takes the place of `audit.models.cuda_graphs.CudaGraphs`.

    Attributes:
        recorded: How many recordings were made.
        replayed: How often one was replayed.
        recording: Whether one is being made.
    """

    recorded: ClassVar[int] = 0
    replayed: ClassVar[int] = 0
    recording: ClassVar[bool] = False

    def __init__(self, device: torch.device) -> None:
        """A tape for tensors of the processor."""

    @classmethod
    def install(cls, patched: pytest.MonkeyPatch) -> None:
        """Record on tapes as long as the patch holds."""
        patched.setattr("audit.models.replayed_steps.CudaGraphs", cls)

    def rehearse(self, run: Callable[[], _T]) -> _T:
        with _Refusing():
            return run()

    def record(self, run: Callable[[], object]) -> Callable[[], None]:
        recorder = _Recorder()
        Tape.recording = True
        try:
            with recorder:
                run()
        finally:
            Tape.recording = False
            with torch.no_grad():
                recorder.undo()
        Tape.recorded += 1
        operations = recorder.operations

        def replay() -> None:
            Tape.replayed += 1
            with torch.no_grad():
                for func, args, kwargs, outcome in operations:
                    _again(func, args, kwargs, outcome)

        return replay


def _again(func: Any, args: Any, kwargs: Any, outcome: Any) -> None:
    given = _storages((args, kwargs))
    for old, new in zip(tree_leaves(outcome), tree_leaves(func(*args, **kwargs)), strict=True):
        if isinstance(old, Tensor) and old.untyped_storage().data_ptr() not in given:
            old.copy_(new)


def _storages(values: Any) -> set[int]:
    return {leaf.untyped_storage().data_ptr() for leaf in tree_leaves(values) if isinstance(leaf, Tensor)}


def _written(func: Any, args: Any, kwargs: Any) -> list[Tensor]:
    """What an operation writes into."""
    schema = func._schema.arguments
    named = {argument.name: value for argument, value in zip(schema, args, strict=False)} | dict(kwargs)
    marked = {a.name for a in schema if a.alias_info is not None and a.alias_info.is_write}
    return [t for name in marked for t in tree_leaves(named.get(name)) if isinstance(t, Tensor)]
