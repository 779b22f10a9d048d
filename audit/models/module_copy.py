"""Copies of modules that `copy.deepcopy` refuses or copies by halves.

deepcopy refuses tensors that came out of a forward (old weight_norm and spectral_norm, cached features), locks, open
files and generators; it makes scripts whose weights are no leaves; and a lambda it copies goes on calling the original.
"""

from __future__ import annotations

import copy
import io
import types
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from typing import Any, NamedTuple, TypeVar, cast

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from audit.core.errors import ModelError, one_line

_CONTAINERS = (list, tuple, set, frozenset, deque)
_Module = TypeVar("_Module", bound=nn.Module)
_WRITABLE = (list, dict, set, deque)
_TABLES = ("_parameters", "_buffers", "_modules")
_BACKWARD_HOOKS = ("_backward_hooks", "_backward_pre_hooks")


class ModuleCopy(NamedTuple):
    """A copy, and what it still has in common with the module it was made from.

    Attributes:
        module: The copy.
        shared: Names of attributes that cannot be copied and are the same object in both.
    """

    module: nn.Module
    shared: tuple[str, ...]


def copy_module(module: _Module) -> _Module:
    """A copy with numbers of its own; the module stays as it is.

    Args:
        module: Any module.

    Raises:
        ModelError: It cannot be copied; the attribute is named where it is known.
    """
    return cast(_Module, copy_of(module).module)


def copy_of(module: nn.Module) -> ModuleCopy:
    """As `copy_module`, and says which attributes could not be copied.

    Compiled modules, averaged ones and data-parallel wrappers are copied as the module inside. Backward hooks are left
    behind: they change gradients and no output.

    Args:
        module: Any module.

    Raises:
        ModelError: It cannot be copied; the attribute is named where it is known.
    """
    while (inner := inner_module(module)) is not None:
        module = inner
    survey, shared = _Survey(module), []
    try:
        survey.visit(module)
        try:
            copied = survey.copied(module)
        except Exception:
            shared = survey.share_what_cannot_be_copied()
            copied = survey.copied(module)
    except Exception as fault:
        raise ModelError(
            f"The model ({type(module).__name__}) cannot be copied, and the audit never works on the original: "
            f"{one_line(fault)}. Make its class work with copy.deepcopy, or load its state dict into a plain module."
        ) from fault
    for layer in copied.modules():
        if isinstance(layer, torch.jit.ScriptModule):
            continue
        for hooks in _BACKWARD_HOOKS:
            layer.__dict__[hooks].clear()
        for name, child in layer._modules.items():
            while isinstance(child, nn.Module) and (inner := inner_module(child)) is not None:
                child = layer._modules[name] = inner
    return ModuleCopy(copied, tuple(shared))


def inner_module(module: nn.Module) -> nn.Module | None:
    """The module inside a wrapper that changes how it is run and not what it answers; None for any other.

    Args:
        module: Any module.
    """
    if isinstance(module, nn.DataParallel | nn.parallel.DistributedDataParallel | AveragedModel):
        return module.module
    inner = getattr(module, "_orig_mod", None)
    return inner if isinstance(inner, nn.Module) else None


class _Survey:
    """Everything reachable from a module through containers and attributes that deepcopy fails on or half copies.

    Attributes:
        layers: Ids of the modules inside.
        holding: By id of a function, whether it holds a part of the module.
        replaced: By id of an object, what stands for it in the copy.
        functions: Functions that hold a part of the module: their owner, their key there, themselves.
        others: Attributes that are neither containers, tensors, modules nor functions: path and value.
    """

    def __init__(self, module: nn.Module) -> None:
        self.layers = {id(layer) for layer in module.modules()}
        self.holding: dict[int, bool] = {}
        self.replaced: dict[int, Any] = {}
        self.functions: list[tuple[Any, Any, types.FunctionType]] = []
        self.others: list[tuple[str, Any]] = []

    def visit(self, module: nn.Module) -> None:
        """Note what needs care in a module and below."""
        visited: dict[int, Any] = {}
        pending: list[tuple[str, Any]] = [("", module)]
        while pending:
            path, value = pending.pop()
            if id(value) in visited or isinstance(value, _PLAIN) or self._is_foreign(value):
                continue
            visited[id(value)] = value
            if isinstance(value, Tensor):
                if not value.is_leaf:
                    self.replaced[id(value)] = value.detach().clone()
            elif isinstance(value, torch.jit.ScriptModule):
                self.replaced[id(value)] = _script_copy(value)
            else:
                if not isinstance(value, (*_CONTAINERS, Mapping, nn.Module, types.FunctionType)):
                    self.others.append((path, value))
                for key, child in _children(value):
                    if isinstance(child, types.FunctionType) and self._belongs(child):
                        self.functions.append((value, key, child))
                    pending.append((path if key in _TABLES else f"{path}.{key}".strip("."), child))

    def _is_foreign(self, value: Any) -> bool:
        """Whether it is a function that holds nothing of the module: it is the same in the copy."""
        return isinstance(value, types.FunctionType) and not self._belongs(value)

    def copied(self, module: nn.Module) -> nn.Module:
        """The copy, in which functions hold the copies of what the originals hold."""
        memo = dict(self.replaced)
        result = copy.deepcopy(module, memo)
        twins = {id(function): _twin(function) for _, _, function in self.functions}
        for owner, key, function in self.functions:
            target = memo.get(id(owner), owner)
            if target is not owner and not isinstance(target, tuple | frozenset | set | partial):
                holder = target if isinstance(target, dict | list | deque) else vars(target)
                holder[key] = twins[id(function)]
        for _, _, function in self.functions:
            self._fill(twins[id(function)], function, memo, twins)
        return result

    def share_what_cannot_be_copied(self) -> list[str]:
        """Keep such attributes as they are; their names."""
        shared = []
        for path, value in reversed(self.others):
            try:
                copy.deepcopy(value, dict(self.replaced))
            except Exception:
                self.replaced[id(value)] = value
                shared.append(path)
        return sorted(shared)

    def _belongs(self, value: Any) -> bool:
        """Whether it is a part of the module, holds one, or is a container that a function may write to."""
        if isinstance(value, types.FunctionType):
            if value.__module__ is not None and value.__module__.partition(".")[0] == "torch":
                return False
            if id(value) not in self.holding:
                self.holding[id(value)] = False  # until its contents say otherwise: functions may hold each other
                self.holding[id(value)] = any(self._belongs(content) for _, content in _held(value))
            return self.holding[id(value)]
        owner = value.__self__ if isinstance(value, types.MethodType) else value
        return id(owner) in self.layers or isinstance(value, _WRITABLE)

    def _fill(
        self, twin: types.FunctionType, function: types.FunctionType, memo: dict[int, Any], twins: dict[int, Any]
    ) -> None:
        def carried(value: Any) -> Any:
            if id(value) in twins:
                return twins[id(value)]
            return copy.deepcopy(value, memo) if self._belongs(value) else value

        for old, new in zip(function.__closure__ or (), twin.__closure__ or (), strict=True):
            if (content := _content(old)) is not _EMPTY:
                new.cell_contents = carried(content)
        for name in function.__code__.co_names:
            if name in twin.__globals__:
                twin.__globals__[name] = carried(twin.__globals__[name])
        twin.__defaults__ = function.__defaults__ and tuple(map(carried, function.__defaults__))


_PLAIN = (
    str,
    bytes,
    int,
    float,
    complex,
    bool,
    type(None),
    type,
    torch.dtype,
    torch.device,
    torch.Size,
    types.ModuleType,
    types.BuiltinFunctionType,
)
_EMPTY = object()


def _children(value: Any) -> Iterable[tuple[Any, Any]]:
    """Keys and values: of a container, of attributes, of what a function holds."""
    if isinstance(value, Mapping):
        return list(value.items())
    if isinstance(value, _CONTAINERS):
        return list(enumerate(value))
    if isinstance(value, types.FunctionType):
        return list(_held(value))
    if isinstance(value, types.MethodType):
        return [("__self__", value.__self__)]
    if isinstance(value, partial):
        return [*enumerate((value.func, *value.args)), *value.keywords.items()]
    attributes = getattr(value, "__dict__", None)
    return list(attributes.items()) if isinstance(attributes, dict) else []


def _held(function: types.FunctionType) -> Iterator[tuple[str, Any]]:
    """What a function closes over, its defaults, and the globals that it names."""
    code = function.__code__
    cells = zip(code.co_freevars, function.__closure__ or (), strict=True)
    yield from ((name, content) for name, cell in cells if (content := _content(cell)) is not _EMPTY)
    yield from (("__defaults__", value) for value in function.__defaults__ or ())
    scope = function.__globals__
    for name in code.co_names:
        # The lists and tables of a library are its own business; those of a notebook are what its hooks write to.
        if name in scope and (scope.get("__name__") == "__main__" or not isinstance(scope[name], _WRITABLE)):
            yield name, scope[name]


def _content(cell: types.CellType) -> Any:
    try:
        return cell.cell_contents
    except ValueError:
        return _EMPTY


def _twin(function: types.FunctionType) -> types.FunctionType:
    """The same code with globals of its own, its closure still to be filled."""
    cells = tuple(types.CellType() for _ in function.__closure__ or ())
    twin = types.FunctionType(function.__code__, dict(function.__globals__), function.__name__, None, cells)
    twin.__kwdefaults__, twin.__qualname__ = function.__kwdefaults__, function.__qualname__
    twin.__dict__.update(function.__dict__)
    return twin


def _script_copy(script: torch.jit.ScriptModule) -> torch.jit.ScriptModule:
    """Through bytes: the weights of a script that deepcopy made are no leaves."""
    buffer = io.BytesIO()
    torch.jit.save(script, buffer)
    buffer.seek(0)
    load: Callable[[io.BytesIO], torch.jit.ScriptModule] = torch.jit.load
    return load(buffer)
