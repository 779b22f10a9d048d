"""README.md, CONTRIBUTING.md and CHANGELOG.md are true: commands are commands, links lead somewhere, code runs."""

from __future__ import annotations

import re
import shlex
import tomllib
from pathlib import Path

import pytest
import typer

from audit.adversarial.batteries import battery_named
from audit.cli.app import app
from audit.cli.options import overrides
from audit.config import load_config
from audit.core.registry import find
from audit.core.topic import current_name, topics

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = (
    "README.md",
    ".github/CONTRIBUTING.md",
    ".github/SECURITY.md",
    "audit/README.md",
    "samples/formats.md",
    "samples/what-loads.md",
    "samples/benchmarks.md",
)


def blocks(language: str) -> list[str]:
    """The code blocks of one language in README.md."""
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.M | re.S)


def commands() -> list[list[str]]:
    """Every line of README.md, in a block or a sentence, that calls `audit`; placeholders in capitals left out."""
    lines = [line for block in blocks("sh") for line in block.splitlines()]
    lines += re.findall(r"`(audit [^`]+)`", README)
    return [shlex.split(line, comments=True)[1:] for line in lines if line.startswith("audit ")]


@pytest.mark.parametrize("words", commands(), ids=" ".join)
def test_every_command_is_one(words: list[str]) -> None:
    group = typer.main.get_command(app)
    context = group.make_context("audit", [], resilient_parsing=True)
    command = group.get_command(context, words[0])  # type: ignore[attr-defined]
    assert command is not None, words[0]
    parsed = command.make_context(words[0], words[1:], parent=context)
    load_config(overrides=overrides((), {}, parsed.params.get("settings")))
    for attack in (parsed.params.get("attacks") or "").split(","):
        assert not attack or find("attack", attack)


@pytest.mark.parametrize("page", PAGES)
def test_every_link_leads_somewhere(page: str) -> None:
    path = ROOT / page
    links = re.findall(r"\]\((?!https?:)([^)\s]+)\)", path.read_text(encoding="utf-8"))
    for link in links:
        name, _, anchor = link.partition("#")
        target = (path.parent / name).resolve() if name else path
        assert target.exists(), link
        if anchor:
            titles = re.findall(r"^#+ (.+)$", target.read_text(encoding="utf-8"), re.M)
            assert anchor in {re.sub(r"[^\w -]", "", title).lower().replace(" ", "-") for title in titles}, link


def test_the_battery_is_one() -> None:
    (text,) = (block for block in blocks("toml") if "robustness.battery" in block)
    rows = load_config(overrides=tomllib.loads(text)).robustness.battery
    assert [row.attack for row in rows] == ["apgd-ce", "square"]
    assert battery_named("apgd-ce,square")


def test_the_python_example_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    code = blocks("python")[0]
    shorter = code.replace("epochs=3", "epochs=1").replace("slice(0, 1500)", "slice(0, 200)").replace("1600", "1510")
    assert shorter.count("epochs=1") == 2 and "1510" in shorter
    exec(shorter, {})
    assert (tmp_path / "hardened.safetensors").is_file()


def test_the_changelog_names_every_former_key_and_name() -> None:
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    for topic in topics():
        for former, now in topic.former_keys.items():
            assert f"`{now}`" in text or f"`.{now.split('.')[1]}`" in text, former
        for former, now in topic.former_names.items():
            assert f"`{former}`" in text and f"`{now}`" in text and current_name(former) == now


def test_the_changelog_begins_with_the_version_of_the_package() -> None:
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    first = re.search(r"^## \[?([^\s\]]+)", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.M)
    assert first and first[1] == declared
