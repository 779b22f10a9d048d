"""The command that repeats a run: a flag or `--set` for whatever its configuration says and its preset does not."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from audit.config import RunConfig, load_config
from audit.config.flags import AUDIT_FLAGS, SUBJECT_FLAGS, KeyFlag, flags_of
from audit.config.template import to_toml
from audit.core.topic import measured_sections

_THREAT = ("robustness.norm", "robustness.eps")


def reproduce_command(config: RunConfig) -> str:
    """The `audit run` that repeats a run: with its preset, and whatever differs from that.

    Args:
        config: The configuration of the run.
    """
    words = ["audit", "run", "--preset", config.preset, "--seed", str(config.seed)]
    keys = {key for key in _changed(config) if key not in ("preset", "seed")}
    return shlex.join([*words, *_words(config, keys, flags_of(RunConfig, AUDIT_FLAGS))])


def subject_flags(config: RunConfig) -> str:
    """The flags by which another command finds the same model, data and threat; empty for the sample as it ships.

    Args:
        config: The configuration of the run.
    """
    training = ("training",) if not config.model.loads else ()
    tables = (*SUBJECT_FLAGS, *_THREAT, *training)
    keys = {key for key in _changed(config) if key.startswith(tuple(f"{table}." for table in tables)) or key in tables}
    return shlex.join(_words(config, keys, flags_of(RunConfig, (*SUBJECT_FLAGS, *_THREAT))))


def section_commands(config: RunConfig, task: str = "classification") -> dict[str, str]:
    """The commands that repeat a run, whole and by section.

    Args:
        config: The configuration of the run.
        task: What its model does: "classification" or "detection".

    Returns:
        By "run" the command that repeats everything, by section of the report the one that measures it alone.
    """
    sections = config.only or measured_sections(task)
    commands = {name: reproduce_command(config.model_copy(update={"only": (name,)})) for name in sections}
    return {"run": reproduce_command(config), **commands}


def _words(config: RunConfig, keys: set[str], flags: Sequence[KeyFlag]) -> list[str]:
    """The words that set `keys`: by the first flag that can say the value of all the keys it sets, else by `--set`."""
    values = dict(_leaves(config.model_dump(mode="json")))
    words: list[str] = []
    settings: list[str] = []
    covered: set[str] = set()
    for key in (key for key in values if key in keys):
        if key in covered:
            continue
        for flag in (item for item in flags if item.key == key):
            together = [item for item in flags if item.parameter == flag.parameter]
            spelled = [item.spell(values[item.key]) if item.key in keys else None for item in together]
            if spelled[0] is not None and all(other == spelled[0] for other in spelled):
                words += spelled[0]
                covered |= {item.key for item in together}
                break
        else:
            settings += ["--set", f"{key}={to_toml(values[key])}"]
    return words + settings


def _changed(config: RunConfig) -> list[str]:
    """The keys that have another value than in the preset of the configuration."""
    usual = dict(_leaves(load_config(preset=config.preset).model_dump(mode="json")))
    leaves = _leaves(config.model_dump(mode="json"))
    return [key for key, value in leaves if value is not None and value != usual.get(key)]


def _leaves(table: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in table.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value
