"""The configurations that ship are valid, and the commented default tells the truth."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from audit.assets import folder
from audit.config import RunConfig, load_config

CONFIGURATIONS = sorted(path for path in folder("samples").glob("*.toml") if not path.name.startswith("policy-"))


def leaves(table: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in table.items():
        if isinstance(value, Mapping):
            yield from leaves(value, f"{above}{key}.")
        else:
            yield above + key, list(value) if isinstance(value, tuple) else value


def test_there_are_configurations_to_copy() -> None:
    assert {path.name for path in CONFIGURATIONS} >= {"audit.toml", "full-fashion-mnist.toml", "folder.toml"}


@pytest.mark.parametrize("path", CONFIGURATIONS, ids=lambda path: path.name)
def test_every_sample_configuration_is_valid(path: Path) -> None:
    assert isinstance(load_config(path), RunConfig)


def test_the_default_configuration_spells_out_the_defaults() -> None:
    written = dict(leaves(tomllib.loads((folder("samples") / "audit.toml").read_text())))
    defaults = dict(leaves(RunConfig().model_dump()))
    assert len(written) > 25
    assert {key: defaults[key] for key in written} == written


def test_what_the_default_configuration_offers_in_comments_is_valid_too(tmp_path: Path) -> None:
    text = (folder("samples") / "audit.toml").read_text()
    opened = re.sub(r"^# (?=[a-z_]+ = |\[\[)", "", text, flags=re.MULTILINE).replace('"..."', f'"{"0" * 64}"')
    assert opened != text
    (tmp_path / "opened.toml").write_text(opened)
    config = load_config(tmp_path / "opened.toml")
    assert config.data.image_size == 150 and config.model.trust[0].path == "net.py"
