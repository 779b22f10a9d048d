"""Reads a configuration from a file, a preset and the command line."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from audit.config.sections import RunConfig
from audit.core.errors import UsageError, unknown_name

PRESETS: Mapping[str, Mapping[str, Any]] = {
    "quick": {},
    "standard": {
        "training": {"epochs": 15},
        "hardening": {"epochs": 20},
        "robustness": {
            "examples": 1000,
            "battery": "standard",
            "control_examples": 64,
            "certified_examples": 100,
            "backdoor_examples": 512,
            "further_examples": 400,
        },
        "corruptions": {"examples": 1000, "names": ("all",)},
        "explanations": {"examples": 64, "judging": True, "drift": True, "shortcut_examples": 1000},
    },
    "full": {
        "training": {"epochs": 30},
        "hardening": {"epochs": 40},
        "robustness": {
            "examples": 10_000,
            "battery": "full",
            "control_examples": 200,
            "certified_examples": 1000,
            "backdoor_examples": 2000,
            "further_examples": 2000,
        },
        "corruptions": {"examples": 10_000, "names": ("all",)},
        "explanations": {
            "examples": 200,
            "methods": ("all",),
            "judging": True,
            "drift": True,
            "shortcut_examples": 5000,
        },
    },
}


def load_config(
    path: Path | None = None, *, preset: str | None = None, overrides: Mapping[str, Any] | None = None
) -> RunConfig:
    """The configuration of a run: the command line over a file over a preset.

    Args:
        path: A TOML file; None for none.
        preset: The name of the preset; by default that of `overrides`, of the file, or quick.
        overrides: Keys from the command line, tables as nested mappings.

    Raises:
        UsageError: A key is unknown or its value is wrong; the sentence names the file, the line, the key and the
            nearest valid key.
    """
    text = _read(path) if path else ""
    from_file, overrides = _parse(text, path), overrides or {}
    name = str(preset or overrides.get("preset") or from_file.get("preset") or "quick")
    if name not in PRESETS:
        raise unknown_name("preset", name, PRESETS)
    merged = merge(merge(PRESETS[name], from_file), overrides) | {"preset": name}
    try:
        return RunConfig.model_validate(merged)
    except ValidationError as fault:
        raise _explain(fault, path, text) from None


def merge(under: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Two nested mappings as one, table by table.

    Args:
        under: The mapping that gives way.
        over: The mapping whose values win.
    """
    merged = dict(under)
    for key, value in over.items():
        tables = isinstance(value, Mapping) and isinstance(merged.get(key), Mapping)
        merged[key] = merge(merged[key], value) if tables else value
    return merged


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as fault:
        reason = fault.strerror if isinstance(fault, OSError) else "it is not UTF-8 text"
        raise UsageError(f"Cannot read the configuration {path}: {reason}. Give a TOML file.") from fault


def _parse(text: str, path: Path | None) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as fault:
        raise UsageError(f"{path} is not valid TOML: {fault}.") from None


def _explain(fault: ValidationError, path: Path | None, text: str) -> UsageError:
    first = fault.errors()[0]
    location = [part for part in first["loc"] if isinstance(part, str)]
    line = _line_of(text, location)
    name = ".".join(location)
    if path and line:
        where = f"{path}, line {line}: {name}"
    else:
        where = f"Configuration key {name}"
    if first["type"] == "extra_forbidden":
        section = _section(location[:-1])
        error = unknown_name("key", location[-1], section.model_fields)
        return UsageError(f"{where}: {error}")
    return UsageError(f"{where}: {first['msg']}, but {first['input']!r} was given.")


def _section(location: list[str]) -> type[BaseModel]:
    section: type[BaseModel] = RunConfig
    for name in location:
        annotation = section.model_fields[name].annotation
        arguments = [a for a in get_args(annotation) if isinstance(a, type) and issubclass(a, BaseModel)]
        section = arguments[0] if arguments else annotation  # type: ignore[assignment]
    return section


def _line_of(text: str, location: list[str]) -> int | None:
    """The line that sets the key at `location`; None when the file does not."""
    table: list[str] = []
    for number, line in enumerate(text.splitlines(), start=1):
        header = re.match(r"\s*\[\[?\s*([^\]]+?)\s*\]", line)
        if header:
            table = [part.strip(" \"'") for part in header[1].split(".")]
            if table == location:
                return number
        key = re.match(r"\s*([\w.\"'-]+)\s*=", line)
        if key and table + [part.strip("\"'") for part in key[1].split(".")] == location:
            return number
    return None
