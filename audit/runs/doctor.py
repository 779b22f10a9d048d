"""What an audit needs of a machine, and what it finds."""

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

REQUIRED = ("torch", "torchvision", "captum", "foolbox", "lime", "shap", "altair", "vl-convert-python", "scikit-learn")
OPTIONAL = ("timm", "onnx", "onnx2torch", "keras", "transformers", "pyarrow")
NEEDED_DISK = 500_000_000


@dataclass(frozen=True)
class Diagnostic:
    """One thing looked at; `fine` is None where it is optional and absent."""

    what: str
    found: str
    fine: bool | None


def diagnose_machine(device: str, out: Path) -> tuple[Diagnostic, ...]:
    """Everything, in the order a person would ask."""
    return (*_python(), *_packages(), *_devices(device), *_disk(out))


def _python() -> Iterator[Diagnostic]:
    yield Diagnostic("Python", platform.python_version(), sys.version_info >= (3, 11))
    yield Diagnostic("processors", str(os.cpu_count()), True)


def _packages() -> Iterator[Diagnostic]:
    for name in (*REQUIRED, *OPTIONAL):
        try:
            yield Diagnostic(name, version(name), True)
        except PackageNotFoundError:
            yield Diagnostic(name, "not installed", False if name in REQUIRED else None)


def _devices(name: str) -> Iterator[Diagnostic]:
    from audit.models.under_test import resolve_device

    try:
        chosen = resolve_device(name)
        yield Diagnostic("device", f"{chosen} ({name})" if name == "auto" else str(chosen), True)
    except AuditError as fault:
        yield Diagnostic("device", str(fault), False)


def _disk(out: Path) -> Iterator[Diagnostic]:
    place = next(parent for parent in (out.resolve(), *out.resolve().parents) if parent.is_dir())
    try:
        with tempfile.TemporaryFile(dir=place):
            writable = True
    except OSError:
        writable = False
    free = shutil.disk_usage(place).free
    yield Diagnostic("run folder", f"{out}: {'writable' if writable else 'not writable'}", writable)
    yield Diagnostic("free disk", f"{free / 1e9:.1f} GB", free > NEEDED_DISK)
