"""The command that repeats a run: whatever its configuration says that its preset does not."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Mapping
from typing import Any

from audit.config import RunConfig, load_config
from audit.core.topic import measured_sections

_FLAGS = {
    "seed": "--seed",
    "device": "--device",
    "data.source": "--data",
    "data.image_size": "--image-size",
    "data.crop": "--crop",
    "data.labels_map": "--labels-map",
    "model.weights": "--model",
    "model.architecture": "--architecture",
    "model.mean": "--mean",
    "model.std": "--std",
    "robustness.norm": "--norm",
    "robustness.eps": "--eps",
    "robustness.battery": "--battery",
}


_SUBJECT = ("seed", "data.", "model.", "robustness.norm", "robustness.eps")


def reproduce_command(config: RunConfig) -> str:
    """`audit run` with the preset, a flag for each key that has one, and `--set` for every other that differs."""
    words = ["audit", "run", "--preset", config.preset, "--seed", str(config.seed)]
    for part in config.only:
        words += ["--only", part]
    if not config.hardening.enabled:
        words.append("--no-harden")
    return shlex.join([*words, *_words(config, except_for=("preset", "seed", "hardening.enabled", "only"))])


def subject_flags(config: RunConfig) -> str:
    """What any other command needs to speak of the same model, data and threat; empty for the sample as it ships."""
    trained = ("training.",) if config.model.weights is None else ()
    return shlex.join(_words(config, among=(*_SUBJECT, *trained)))


def _words(config: RunConfig, *, among: tuple[str, ...] = ("",), except_for: tuple[str, ...] = ()) -> list[str]:
    words = [word for trust in config.model.trust for word in ("--trust", trust.path)]
    usual = dict(_leaves(load_config(preset=config.preset).model_dump(mode="json")))
    for key, value in _leaves(config.model_dump(mode="json")):
        if value is None or value == usual.get(key) or key in ("model.trust", *except_for) or not key.startswith(among):
            continue
        flag = None if isinstance(value, list) and value and isinstance(value[0], Mapping) else _FLAGS.get(key)
        words += [flag, _as_flag(value)] if flag else ["--set", f"{key}={_as_toml(value)}"]
    return words


def _as_toml(value: Any) -> str:
    """A value as TOML reads it: JSON, but for tables."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{json.dumps(name)} = {_as_toml(part)}" for name, part in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(_as_toml(part) for part in value) + "]"
    return json.dumps(value)


def _as_flag(value: Any) -> str:
    if isinstance(value, list):
        return ",".join(json.dumps(one) for one in value)
    return value if isinstance(value, str) else json.dumps(value)


def section_commands(config: RunConfig) -> dict[str, str]:
    """By section of the report, the command that measures it alone, and by "run" the one that repeats everything."""
    sections = config.only or measured_sections()
    alone = {part: reproduce_command(config.model_copy(update={"only": (part,)})) for part in sections}
    return {"run": reproduce_command(config), **alone}


def _leaves(table: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in table.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value
