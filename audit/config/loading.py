"""Reads a configuration from a file, a preset and the command line."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, TypeGuard, get_args

from pydantic import BaseModel, ValidationError, create_model

from audit.config.sections import RunConfig
from audit.core.errors import UsageError, unknown_name
from audit.core.topic import require_plugins, topics

PRESETS: Mapping[str, Mapping[str, Any]] = {
    "quick": {},
    "standard": {"stop": 0.1, "training": {"epochs": 15}, "hardening": {"epochs": 20}},
    "full": {"stop": "all", "training": {"epochs": 30}, "hardening": {"epochs": 40}},
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
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as fault:
        reason = fault.strerror if isinstance(fault, OSError) else "it is not UTF-8 text"
        raise UsageError(f"Cannot read the configuration {path}: {reason}. Give a TOML file.") from fault


def _parse(text: str, path: Path | None) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as fault:
        raise UsageError(f"{path} is not valid TOML: {fault}.") from None


def _explain(fault: ValidationError, path: Path | None, text: str) -> UsageError:
    first = min(fault.errors(), key=lambda error: error["type"] != "extra_forbidden")
    location = _keys(first["loc"])
    name = ".".join(location)
    names = (name, *(former for topic in topics() for former, key in topic.former_keys.items() if key == name))
    line = next((line for spelling in names if (line := line_of_key(text, spelling.split(".")))), None)
    if line and (place := first.get("ctx", {})).keys() >= {"row", "key"}:
        line = _line_of_row(text, location, int(place["row"]), str(place["key"])) or line
    if path and line:
        prefix = f"{path}, line {line}: {name}"
    else:
        prefix = f"Configuration key {name}"
    if first["type"] == "extra_forbidden":
        section = _section(location[:-1])
        error = unknown_name("key", location[-1], section.model_fields)
        return UsageError(f"{prefix}: {error}")
    message = str(first["msg"]).removeprefix("Value error, ").rstrip(".")
    for said, plain in _PLAIN.items():
        message = re.sub(said, plain, message)
    return UsageError(f"{prefix}: {message}, but {_shown(first['input'])} was given.")


_PLAIN = {r"valid dictionary or instance of \w+": "table of keys", "valid dictionary": "table", "valid tuple": "list"}
"""What pydantic calls the values of TOML, as a pattern, and what TOML calls them."""


def _shown(value: Any) -> str:
    shown = repr(value)
    return shown if len(shown) <= 100 else f"{shown[:100]}..."


def _keys(location: Sequence[str | int]) -> list[str]:
    """The keys of a location: it goes on with what pydantic calls the members of a union or of a list."""
    keys: list[str] = []
    table: type[BaseModel] | None = run_config_type()
    for part in location:
        if table is None or not isinstance(part, str):
            break
        keys.append(part)
        table = _table(table, part)
    return keys


def _section(location: list[str]) -> type[BaseModel]:
    section: type[BaseModel] = run_config_type()
    for name in location:
        section = _table(section, name) or section
    return section


def _table(table: type[BaseModel], key: str) -> type[BaseModel] | None:
    """The table that a key of a table holds; None where it holds a value, or is no key."""
    annotation = table.model_fields[key].annotation if key in table.model_fields else None
    return next((a for a in (annotation, *get_args(annotation)) if _is_table(a)), None)


def _is_table(annotation: Any) -> TypeGuard[type[BaseModel]]:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


def line_of_key(text: str, location: list[str]) -> int | None:
    """The line of a TOML file that sets a key, or begins a table.

    Args:
        text: The file's text.
        location: The names of the tables around the key, and its own.

    Returns:
        The line, from 1; None where no line does.
    """
    table: list[str] = []
    for number, line in enumerate(text.splitlines(), start=1):
        if (header := _header(line)) is not None:
            table = header
            if table == location:
                return number
        elif _sets(line, table) == location:
            return number
    return None


def _line_of_row(text: str, location: list[str], row: int, key: str) -> int | None:
    """The line that sets a key in one of the tables [[location]], from 1, or that of its header; None without one."""
    start, counted = None, 0
    for number, line in enumerate(text.splitlines(), start=1):
        if (header := _header(line)) is not None:
            if start is not None:
                break
            counted += header == location
            start = number if header == location and counted == row else None
        elif start is not None and _sets(line, []) == [key]:
            return number
    return start


def _header(line: str) -> list[str] | None:
    header = re.match(r"\s*\[\[?\s*([^\]]+?)\s*\]", line)
    return [part.strip(" \"'") for part in header[1].split(".")] if header else None


def _sets(line: str, table: list[str]) -> list[str]:
    """The key that a line of a table sets, with the table; empty where it sets none."""
    key = re.match(r"\s*([\w.\"'-]+)\s*=", line)
    return table + [part.strip("\"'") for part in key[1].split(".")] if key else []
