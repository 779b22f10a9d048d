"""Every command, flag and key that a message advises is there: in code, in the languages' files and in templates."""

from __future__ import annotations

import ast
import re
import shlex
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import typer

from audit.cli.app import app
from audit.config.loading import run_config_type

ROOT = Path(__file__).parents[1]
COMMANDS: dict[str, Any] = typer.main.get_command(app).commands  # type: ignore[attr-defined]
CHROMIUM = {
    "--headless",
    "--disable-gpu",
    "--no-pdf-header-footer",
    "--user-data-dir",
    "--no-sandbox",
    "--print-to-pdf",
}
ELSEWHERE = {"--gcc-toolchain", "--cpus", "--install-completion", "--show-completion"} | CHROMIUM
"""Flags of other programs, and typer's own."""


def flags_of_command(name: str) -> set[str]:
    params = COMMANDS[name].params
    return {text for item in params for text in (*item.opts, *item.secondary_opts) if text.startswith("-")} | {"--help"}


ALL_FLAGS = {flag for name in COMMANDS for flag in flags_of_command(name)} | {"--version"}


@cache
def sentences() -> tuple[tuple[str, str], ...]:
    """Where a text stands, and the text, with `{}` for what is filled in."""
    return tuple(found for path in sorted((ROOT / "audit").rglob("*.py")) for found in in_code(path)) + tuple(
        (f"{path.relative_to(ROOT)}", text)
        for path in [*ROOT.glob("templates/locales/*.toml"), *ROOT.glob("audit/topics/*/strings.*.toml")]
        for text in texts_of(tomllib.loads(path.read_text("utf-8")))
    )


def in_code(path: Path) -> Iterator[tuple[str, str]]:
    tree = ast.parse(path.read_text("utf-8"))
    inner = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in ast.walk(node)}
    for node in ast.walk(tree):
        where = f"{path.relative_to(ROOT)}:{getattr(node, 'lineno', 0)}"
        if isinstance(node, ast.JoinedStr):
            yield where, "".join(str(p.value) if isinstance(p, ast.Constant) else "{}" for p in node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in inner:
            yield where, node.value


def texts_of(table: Any) -> Iterator[str]:
    for value in table.values():
        if isinstance(value, dict):
            yield from texts_of(value)
        else:
            yield str(value)


def commands_in(text: str) -> Iterator[str]:
    """Command lines between backticks, those of a check's `command`, and the examples of a command's help."""
    yield from re.findall(r"`(audit [a-z][^`]*)`", text)
    if re.fullmatch(r"audit [a-z]+( [^.]*)?", text):
        yield text
    yield from (line.strip() for line in re.findall(r"^ {2,}(audit [a-z].*)$", text, re.MULTILINE))


ADVISED = sorted({(line, where) for where, text in sentences() for line in commands_in(text)})


@pytest.mark.parametrize("line", sorted({line for line, _ in ADVISED}))
def test_an_advised_command_exists_with_its_flags(line: str) -> None:
    words = shlex.split(re.split(r" (?:>|\|) ", line)[0])
    assert words[1] in COMMANDS or words[1].startswith("-"), line
    given = {word.partition("=")[0] for word in words[2:] if word.startswith("-") and len(word) > 1}
    assert given <= flags_of_command(words[1]), line


def test_an_advised_flag_exists() -> None:
    wrong = {
        (where, flag)
        for where, text in sentences()
        for flag in re.findall(r"(?<![\w(-])--[a-z][a-z-]+(?![\w{-])", text)
        if flag not in ALL_FLAGS | ELSEWHERE
    }
    assert not wrong


def keys_of(table: Any, prefix: str = "") -> Iterator[str]:
    for name, field in table.model_fields.items():
        yield prefix + name
        if isinstance(field.annotation, type) and hasattr(field.annotation, "model_fields"):
            yield from keys_of(field.annotation, f"{prefix}{name}.")


def test_an_advised_key_exists() -> None:
    keys = set(keys_of(run_config_type()))
    tables = {key.partition(".")[0] for key in keys if "." in key}
    wrong = {
        (where, key)
        for where, text in sentences()
        if " " in text or "`" in text
        for key in re.findall(r"(?:--set |`)([a-z_]+(?:\.[a-z_]+)+)(?==|`)", text)
        if key.partition(".")[0] in tables and key not in keys and not key.endswith((".py", ".html"))
    }
    assert not wrong


def test_whoever_is_told_to_attack_more_images_is_told_of_the_rule_that_stops_before() -> None:
    told = [(where, text) for where, text in sentences() if "`robustness.examples`" in text]
    assert len(told) >= 4, "two checks in two languages"
    assert [where for where, text in told if "`--stop all`" not in text] == []
