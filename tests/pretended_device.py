"""An accelerator that is not there: tensors that say they are elsewhere, compute on the CPU and never mix with its own.

A tensor on the pretended device wraps one of the CPU and answers to `device("meta")`, the one device that torch takes
for granted without hardware. As on a card, an operation on tensors of both devices raises, `numpy()` raises, and what
is made without naming a device lies on the CPU. Unlike on torch's meta device, there are numbers.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from typing import Any, Self
from unittest.mock import patch
from weakref import finalize

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only

from audit.core.errors import NotApplicable

ELSEWHERE = torch.device("meta")
_CPU = torch.device("cpu")
_COPY = torch.ops.aten.copy_.default
_COPIES = (_COPY, torch.ops.aten._to_copy.default)
_BY_POSITION = (torch.ops.aten.index.Tensor, torch.ops.aten.index_put_.default, torch.ops.aten.index_put.default)
_READS = (torch.ops.aten._local_scalar_dense.default, torch.ops.aten.nonzero.default, torch.ops.aten.equal.default)


class _Memory:
    """What is alive on the device, each storage once.

    Attributes:
        present: Of the device within which we are; None outside.
    """

    present: _Memory | None = None

    def __init__(self, limit: float) -> None:
        self.limit, self.used, self.most, self.refused = limit, 0, 0, 0
        self._holders: Counter[int] = Counter()

    def take(self, tensor: DeviceTensor) -> None:
        storage = tensor.data_.untyped_storage()
        key, size = storage.data_ptr(), storage.nbytes()
        if not self._holders[key]:
            if self.used + size > self.limit:
                self.refused += 1
                raise torch.OutOfMemoryError(f"CUDA out of memory. Tried to allocate {size} bytes.")
            self.used += size
            self.most = max(self.most, self.used)
        self._holders[key] += 1
        finalize(tensor, self._give_back, key, size)

    def _give_back(self, key: int, size: int) -> None:
        self._holders[key] -= 1
        self.used -= size * (not self._holders[key])


class DeviceTensor(Tensor):
    """A tensor on the pretended device.

    Attributes:
        data_: Its numbers, on the CPU.
    """

    data_: Tensor
    __module__ = "torch"  # by which other packages know a tensor of torch
    __torch_function__ = torch._C._disabled_torch_function_impl

    @staticmethod
    def __new__(cls, data: Tensor) -> DeviceTensor:
        return Tensor._make_wrapper_subclass(  # type: ignore[attr-defined,no-any-return]
            cls,
            data.shape,
            strides=data.stride(),
            storage_offset=data.storage_offset(),
            dtype=data.dtype,
            layout=data.layout,
            device=ELSEWHERE,
            requires_grad=False,
        )

    def __init__(self, data: Tensor) -> None:
        assert not data.is_meta, "numbers are lost"
        self.data_ = data
        if _Memory.present is not None:
            _Memory.present.take(self)

    @property
    def is_meta(self) -> bool:  # type: ignore[override]
        return False

    @property
    def data(self) -> Tensor:  # type: ignore[override]
        return Tensor.data.__get__(self)  # type: ignore[attr-defined,no-any-return]

    @data.setter
    def data(self, value: DeviceTensor) -> None:
        """The numbers go along, as where a net's weights get another memory format."""
        Tensor.data.__set__(self, value)  # type: ignore[attr-defined]
        self.data_ = value.data_

    def data_ptr(self) -> int:
        return self.data_.data_ptr()

    def tolist(self) -> Any:
        return self.cpu().tolist()

    def __repr__(self) -> str:
        return f"elsewhere({self.data_})"

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(func, args, kwargs or {})


def _filled_on_the_cpu() -> ExitStack:
    """Replace what torch fills with Python's numbers before any dispatch: filled on the CPU and moved."""
    tensor, as_tensor, get, put = torch.tensor, torch.as_tensor, Tensor.__getitem__, Tensor.__setitem__

    def moved(make: Callable[..., Tensor]) -> Callable[..., Tensor]:
        def filled(data: Any, *args: Any, device: Any = None, **given: Any) -> Tensor:
            if isinstance(data, Tensor):
                return data.to(device=device or data.device, dtype=given.get("dtype") or data.dtype)
            made = make(data, *args, device=_CPU, **given)
            return made if device is None else made.to(device)

        return filled

    def new_tensor(self: Tensor, data: Any, *, dtype: Any = None, device: Any = None) -> Tensor:
        return tensor(data, dtype=dtype or self.dtype, device=_CPU).to(device or self.device)

    def positions(index: Any) -> Any:
        if isinstance(index, tuple):
            return tuple(positions(part) for part in index)
        numbers = isinstance(index, range) or (isinstance(index, list) and all(isinstance(n, int) for n in index))
        return tensor(list(index), device=_CPU) if numbers else index

    def set_item(self: Tensor, index: Any, value: Any) -> None:
        number = isinstance(value, bool | int | float)
        put(self, positions(index), tensor(value, dtype=self.dtype, device=_CPU) if number else value)

    stack = ExitStack()
    stack.enter_context(patch.object(torch, "tensor", moved(tensor)))
    stack.enter_context(patch.object(torch, "as_tensor", moved(as_tensor)))
    stack.enter_context(patch.object(Tensor, "new_tensor", new_tensor))
    stack.enter_context(patch.object(Tensor, "__getitem__", lambda self, index: get(self, positions(index))))
    stack.enter_context(patch.object(Tensor, "__setitem__", set_item))
    stack.enter_context(
        patch("torch.optim.optimizer._get_fused_kernels_supported_devices", lambda: ["cpu", ELSEWHERE.type])
    )
    return stack


class PretendedDevice(TorchDispatchMode):
    """Within it `device("meta")` is the pretended device.

    Args:
        float64: Whether the device has such numbers; MPS has none.
        memory: Bytes of it; one that would take more raises what CUDA does.

    Attributes:
        memory: What is alive there: bytes `used` and the `most` so far, and how often it `refused` some.
        host_reads: How often the processor waited for the device, by operation.
        host_writes: How often it waited until the device had copied tensors of its own, by operation.
    """

    def __init__(self, *, float64: bool = True, memory: float = float("inf")) -> None:
        super().__init__()
        self.float64, self.memory = float64, _Memory(memory)
        self.host_reads: Counter[str] = Counter()
        self.host_writes: Counter[str] = Counter()

    def __enter__(self) -> Self:
        self._replaced = _filled_on_the_cpu()
        if not self.float64:
            self._replaced.enter_context(patch("audit.core.precise._WITHOUT_FLOAT64", (ELSEWHERE.type,)))
        self._replaced.enter_context(patch.object(_Memory, "present", self.memory))
        # A module's conversion makes new parameters: the numbers of a wrapper do not follow `parameter.data = ...`.
        self._replaced.callback(torch.__future__.set_overwrite_module_params_on_conversion, False)
        torch.__future__.set_overwrite_module_params_on_conversion(True)
        return super().__enter__()

    def __exit__(self, *fault: Any) -> None:
        super().__exit__(*fault)
        self._replaced.close()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = kwargs or {}
        on_device = any(isinstance(leaf, DeviceTensor) for leaf in tree_leaves((args, given)))
        outcome = _run(func, args, given)
        made = [leaf for leaf in tree_leaves(outcome) if isinstance(leaf, Tensor)]
        if on_device and (func in _READS or any(not isinstance(tensor, DeviceTensor) for tensor in made)):
            self.host_reads[str(func)] += 1
        copied = func in _COPIES and any(isinstance(tensor, DeviceTensor) for tensor in made)
        if copied and not all(isinstance(t, DeviceTensor) for t in tree_leaves(args) if isinstance(t, Tensor)):
            self.host_writes[str(func)] += 1
        if not self.float64 and any(isinstance(t, DeviceTensor) and t.dtype == torch.float64 for t in made):
            raise TypeError(f"{func}: this device has no float64.")
        return outcome


def _allowed(func: Any, args: Any, tensors: list[Tensor]) -> bool:
    """Whether a card takes these: numbers from anywhere, copies, and positions on the CPU of what lies there."""
    if func is _COPY:
        return True
    if func in _BY_POSITION and isinstance(args[0], DeviceTensor):
        tensors = [args[0], *(leaf for leaf in tree_leaves(args[2:]) if isinstance(leaf, Tensor))]
    return not any(tensor.dim() and not isinstance(tensor, DeviceTensor) for tensor in tensors)


def _run(func: Callable[..., Any], args: Any, kwargs: Mapping[str, Any]) -> Any:
    tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
    there = [tensor for tensor in tensors if isinstance(tensor, DeviceTensor)]
    target = next((leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.device)), None)
    if any(tensor.is_meta and not isinstance(tensor, DeviceTensor) for tensor in tensors):
        raise AssertionError(f"{func}: torch made a tensor without numbers, which the pretence should have caught.")
    if there and not _allowed(func, args, tensors):
        raise RuntimeError(f"{func}: expected all tensors on the same device, found the CPU and another.")
    if func is _COPY:
        stays = isinstance(args[0], DeviceTensor)
    else:
        stays = bool(there) if target is None else torch.device(target).type == ELSEWHERE.type
    plain, given = tree_map_only(DeviceTensor, lambda tensor: tensor.data_, (args, dict(kwargs)))
    plain, given = tree_map_only(torch.device, lambda device: _CPU, (plain, given))
    outcome = func(*plain, **given)
    if not stays:
        return outcome
    same = {id(tensor.data_): tensor for tensor in there}  # an operation in place gives what it was given
    return tree_map_only(Tensor, lambda t: same[id(t)] if id(t) in same else DeviceTensor(t), outcome)


def on_both(compute: Callable[[torch.device], Tensor]) -> tuple[Tensor, Tensor]:
    """What is computed on the CPU and on the pretended device, both on the CPU; skipped where it has no meaning.

    It is computed there twice: with numbers in float64, and without, as on MPS, to nearly the same.

    Args:
        compute: Computes on a device and gives a tensor that lies there.
    """
    try:
        here = compute(_CPU)
    except NotApplicable as reason:
        pytest.skip(str(reason))
    with PretendedDevice():
        there = compute(ELSEWHERE)
        assert there.device == ELSEWHERE
    with PretendedDevice(float64=False):
        plain = compute(ELSEWHERE).cpu()
    with PretendedDevice():
        size = float(there.abs().max())
        off = (there.cpu() - plain).abs() > 1e-5 * max(size, 1e-12)
        assert float(off.float().mean()) < 0.02
        return here, there.cpu()
