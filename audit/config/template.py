"""Writes an `audit.toml` that lists every key with its value and its meaning."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from audit.config.loading import load_config
from audit.config.training import TrainingConfig

_COLUMN, _WIDTH = 40, 120
_HEAD = """\
# audit run audit.toml
#
# Every key there is, with the value it has when nothing is said. Take the # from a line to change its value.
# A flag goes over this file, this file over the preset.
"""


def configuration_template(preset: str = "quick") -> str:
    """Commented TOML that loads to a preset as it is, and to the same with every `key = value` uncommented.

    Keys without a value show `...`. Sections that repeat the keys of [training] list them without their meaning.

    Args:
        preset: The name of the preset.

    Raises:
        UsageError: There is no such preset.
    """
    config = load_config(preset=preset)
    fields = type(config).model_fields
    plain = [key for key, field in fields.items() if not isinstance(getattr(config, key), BaseModel)]
    lines = [_HEAD, f'preset = "{preset}"'.ljust(_COLUMN) + f"# {fields['preset'].description}"]
    lines += [line for key in plain if key != "preset" for line in _entry(key, getattr(config, key), fields[key])]
    for key in fields:
        if key not in plain:
            lines += _section(key, getattr(config, key))
    return "\n".join(lines) + "\n"


def to_toml(value: Any) -> str:
    """A value of the configuration as TOML writes it on one line.

    Args:
        value: Text, a number, a truth value, a table of them, a list of any; None is written `...`.
    """
    if value is None:
        return "..."
    if isinstance(value, BaseModel):
        value = value.model_dump(mode="json")
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{json.dumps(k)} = {to_toml(v)}" for k, v in value.items()) + " }" if value else "{}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(to_toml(item) for item in value)}]"
    return json.dumps(value, ensure_ascii=False)


def _section(name: str, section: BaseModel) -> Iterator[str]:
    yield ""
    yield f"# {type(section).__doc__}"
    yield f"[{name}]"
    inherits = isinstance(section, TrainingConfig) and type(section) is not TrainingConfig
    named = type(section).__annotations__ if inherits else type(section).model_fields
    tables = []
    for key in named:
        value = getattr(section, key)
        if isinstance(value, BaseModel):
            tables.append(key)
        yield from _entry(key, value, type(section).model_fields[key])
    for key in tables:
        yield from _table(f"{name}.{key}", getattr(section, key))
    if inherits:
        yield "# The rest as in [training], each with a value of its own:"
        yield from _inherited(section, named)


def _inherited(section: BaseModel, named: Mapping[str, Any]) -> Iterator[str]:
    for key in type(section).model_fields:
        value = getattr(section, key)
        if key not in named and not isinstance(value, BaseModel):
            yield f"# {key} = {to_toml(value)}"


def _table(name: str, table: BaseModel) -> Iterator[str]:
    yield f"# [{name}]"
    for key, field in type(table).model_fields.items():
        yield from _entry(key, getattr(table, key), field)


def _entry(key: str, value: Any, field: FieldInfo) -> Iterator[str]:
    """`# key = value   # meaning`, the meaning going on in its own column."""
    meaning = textwrap.wrap(field.description or "", _WIDTH - _COLUMN - 2, break_on_hyphens=False)
    start = f"# {key}: a table" if isinstance(value, BaseModel) else f"# {key} = {to_toml(value)}"
    if len(start) >= _COLUMN:
        yield start
        start = "#"
    for number, line in enumerate(meaning):
        yield (start if number == 0 else "#").ljust(_COLUMN) + f"# {line}"
