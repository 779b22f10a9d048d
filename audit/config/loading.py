"""Reads a configuration from a file, a preset and the command line."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel, ValidationError, create_model

from audit.config.sections import RunConfig
from audit.core.errors import UsageError, unknown_name
from audit.core.topic import require_plugins, topics

PRESETS: Mapping[str, Mapping[str, Any]] = {
    "quick": {},
    "standard": {"training": {"epochs": 15}, "hardening": {"epochs": 20}},
    "full": {"training": {"epochs": 30}, "hardening": {"epochs": 40}},
}
"""What a preset says of the tables that are no topic's; each topic declares its own values."""


def preset_values(preset: str) -> dict[str, Any]:
    """Every value that a preset sets, by table and key.

    Args:
        preset: One of `PRESETS`.
    """
    values = dict(PRESETS[preset])
    for topic in topics():
        if preset in topic.presets:
            values = merge(values, {topic.name: topic.presets[preset]})
    return values


@cache
def run_config_type() -> type[RunConfig]:
    """The model of a whole configuration: `RunConfig` with a table for each topic that has one."""
    tables: dict[str, Any] = {topic.name: (topic.config, topic.config()) for topic in topics() if topic.config}
    return create_model("RunConfig", __base__=RunConfig, **tables)


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
    require_plugins()
    text = _read(path) if path else ""
    from_file, from_flags = with_current_keys(_parse(text, path)), with_current_keys(overrides or {})
    name = str(preset or from_flags.get("preset") or from_file.get("preset") or "quick")
    if name not in PRESETS:
        raise unknown_name("preset", name, PRESETS)
    merged = merge(merge(preset_values(name), from_file), from_flags) | {"preset": name}
    try:
        return run_config_type().model_validate(merged)
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


def with_current_keys(values: Mapping[str, Any]) -> dict[str, Any]:
    """A nested configuration with the keys of earlier versions moved to where they stand now.

    Args:
        values: Tables and keys, such as a file holds; a key that is given both ways keeps its present one.
    """
    moved: dict[str, Any] = dict(values)
    for former, current in (pair for topic in topics() for pair in topic.former_keys.items()):
        table, key = former.split(".")
        if isinstance(moved.get(table), Mapping) and key in moved[table]:
            value = moved[table][key]
            moved[table] = {name: other for name, other in moved[table].items() if name != key}
            new_table, new_key = current.split(".")
            moved = merge({new_table: {new_key: value}}, moved)
    return moved


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
    name = ".".join(location)
    names = (name, *(former for topic in topics() for former, key in topic.former_keys.items() if key == name))
    line = next((line for spelling in names if (line := _line_of(text, spelling.split(".")))), None)
    if path and line:
        prefix = f"{path}, line {line}: {name}"
    else:
        prefix = f"Configuration key {name}"
    if first["type"] == "extra_forbidden":
        section = _section(location[:-1])
        error = unknown_name("key", location[-1], section.model_fields)
        return UsageError(f"{prefix}: {error}")
    return UsageError(f"{prefix}: {first['msg']}, but {first['input']!r} was given.")


def _section(location: list[str]) -> type[BaseModel]:
    section: type[BaseModel] = run_config_type()
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
