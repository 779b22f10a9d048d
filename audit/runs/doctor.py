"""Looks at the machine: does it have what an audit needs?"""

from __future__ import annotations

import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from audit.core.errors import AuditError

_REQUIRED = ("torch", "torchvision", "captum", "foolbox", "lime", "shap", "altair", "vl-convert-python", "scikit-learn")
_OPTIONAL = ("timm", "onnx", "onnxruntime", "keras", "transformers", "pyarrow", "maite", "nrtk")
_NEEDED_DISK = 500_000_000
"""Bytes."""


@dataclass(frozen=True)
class Diagnostic:
    """A property of the machine or of a model, and whether it is fine.

    Attributes:
        what: The property.
        observed: Its value, or a sentence.
        fine: Whether an audit can do with it; None for what is optional and absent.
    """

    what: str
    observed: str
    fine: bool | None


def diagnose_machine(device: str, out: Path) -> tuple[Diagnostic, ...]:
    """Python, processors, packages, the device and the disk.

    Args:
        device: As in the configuration: auto, cpu, cuda, ...
        out: The run folder that is to be written.
    """
    return (*_python(), *_packages(), *_devices(device), *_disk(out))


def _python() -> Iterator[Diagnostic]:
    yield Diagnostic("Python", platform.python_version(), sys.version_info >= (3, 11))
    yield Diagnostic("processors", str(os.cpu_count()), True)


def _packages() -> Iterator[Diagnostic]:
    for name in (*_REQUIRED, *_OPTIONAL):
        try:
            yield Diagnostic(name, version(name), True)
        except PackageNotFoundError:
            yield Diagnostic(name, "not installed", False if name in _REQUIRED else None)


def _devices(name: str) -> Iterator[Diagnostic]:
    from audit.models.devices import resolve_device

    try:
        device = resolve_device(name)
        yield Diagnostic("device", f"{device} ({name})" if name == "auto" else str(device), True)
    except AuditError as fault:
        yield Diagnostic("device", str(fault), False)


def _disk(out: Path) -> Iterator[Diagnostic]:
    folder = next(parent for parent in (out.resolve(), *out.resolve().parents) if parent.is_dir())
    try:
        with tempfile.TemporaryFile(dir=folder):
            writable = True
    except OSError:
        writable = False
    yield Diagnostic("run folder", f"{out}: {'writable' if writable else 'not writable'}", writable)
    free = shutil.disk_usage(folder).free
    enough = free > _NEEDED_DISK
    lacking = "" if enough else f", where an audit asks for {_NEEDED_DISK / 1e9:.1f} GB"
    yield Diagnostic("free disk", f"{free / 1e9:.1f} GB{lacking}", enough)
