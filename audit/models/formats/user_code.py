"""Architectures in the user's own file, FILE.py:FUNCTION: code, run only when that file is trusted."""

from __future__ import annotations

import inspect
import linecache
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import nn

from audit.config import TrustConfig
from audit.core.errors import ModelError, fault_line, unknown_name
from audit.core.seeding import derive_seed
from audit.models.files import check_trusted, read_whole, require_file
from audit.models.loaded import InputShape, TrustedFile
from audit.models.module_checks import as_module
from audit.models.module_copy import copy_module


def split_name(architecture: str) -> tuple[Path, str]:
    """The file and the function of FILE.py:FUNCTION.

    Args:
        architecture: The name.

    Raises:
        ModelError: When there is no such file, or no function is named.
    """
    file, _, function = architecture.rpartition(":")
    if not file.endswith(".py") or not function.isidentifier():
        raise ModelError(f"The architecture {architecture!r} names no function; write FILE.py:FUNCTION.")
    return require_file(file), function


def build_from_code(
    architecture: str,
    trust: Sequence[TrustConfig],
    *,
    classes: int,
    input_shape: InputShape,
    seed: int,
    anew: bool = False,
) -> tuple[nn.Module, TrustedFile]:
    """Run FILE.py and call FUNCTION, with `classes` and `input_shape` if it has parameters of these names.

    The file must stand alone: what is beside it is not trusted. Draws come from `seed` alone; torch's global generator
    stays as it was. Raises UntrustedError before anything runs.

    Args:
        architecture: FILE.py:FUNCTION.
        trust: The files whose code may run.
        classes: Number of outputs.
        input_shape: (C, H, W) of the images.
        seed: Root of the random weights.
        anew: Whether the file is run again though it has been, so that what it made then is not met.

    Returns:
        The module, and the file that was run.

    Raises:
        ModelError: When the code fails or returns no module.
    """
    path, function = split_name(architecture)
    body = read_whole(path)
    sha256 = check_trusted(path, body, trust, reason="is Python")
    with torch.random.fork_rng(devices=[]), torch.device("cpu"):
        torch.default_generator.manual_seed(derive_seed("weights", sha256, seed))
        module = _run(path, body, sha256, anew)
        built = _call(_pick(module, function, path), path, {"classes": classes, "input_shape": input_shape})
    if not isinstance(built, nn.Module | torch.export.ExportedProgram):
        raise ModelError(
            f"{path.name}:{function} returned {type(built).__name__}, where a torch.nn.Module was expected. Return the "
            "network itself."
        )
    try:
        built = copy_module(as_module(built))  # a plain module, which takes .to and .eval
    except ModelError as fault:
        raise ModelError(f"{path.name}:{function}: {fault}") from fault
    return built, TrustedFile(path.name, sha256)


def _run(path: Path, body: bytes, sha256: str, anew: bool) -> ModuleType:
    """The module made of exactly the bytes that were vouched for, under a name no other module can have."""
    name = f"_audit_trusted_{sha256[:16]}" + "_anew" * anew
    if name in sys.modules and not anew:
        return sys.modules[name]
    module = ModuleType(name)
    module.__file__ = f"<trusted {path.name} {sha256[:16]}>"
    sys.modules[name] = module
    try:
        source = body.decode("utf-8")
        exec(compile(source, module.__file__, "exec"), module.__dict__)
    except BaseException as fault:
        del sys.modules[name]
        if isinstance(fault, KeyboardInterrupt):
            raise
        raise ModelError(_failure(path, fault)) from fault
    # inspect.getsource, and so the model's fingerprint, can then read the code of its layers.
    linecache.cache[module.__file__] = (len(source), None, source.splitlines(keepends=True), module.__file__)
    return module


def _failure(path: Path, fault: BaseException) -> str:
    text = f"{path.name} does not run ({fault_line(fault)})."
    if isinstance(fault, SystemExit):
        return f"{text} It must be importable: put what ends it below if __name__ == '__main__'."
    if isinstance(fault, ModuleNotFoundError) and fault.name and (path.parent / f"{fault.name}.py").exists():
        return f"{text} It imports the file beside it, which was not vouched for: put both into one file."
    return f"{text} Run it with python to see more."


def _pick(module: ModuleType, function: str, path: Path) -> Callable[..., Any]:
    value = getattr(module, function, None)
    if not callable(value):
        functions = [name for name, member in vars(module).items() if callable(member) and not name.startswith("_")]
        raise unknown_name(f"function of {path.name}", function, functions)
    return value  # type: ignore[no-any-return]


def _call(function: Callable[..., Any], path: Path, arguments: dict[str, Any]) -> Any:
    try:
        accepted = inspect.signature(function).parameters
        return function(**{name: value for name, value in arguments.items() if name in accepted})
    except (Exception, SystemExit) as fault:
        name = getattr(function, "__name__", "the function")
        raise ModelError(
            f"{path.name}:{name} failed ({fault_line(fault)}). It is called with keywords "
            "`classes` and `input_shape` where it has them, and must need nothing else."
        ) from fault
