"""The configurations that ship are valid, and the commented default tells the truth."""

from __future__ import annotations

from pathlib import Path

import pytest

from audit.config import RunConfig, load_config
from audit.config.template import configuration_template
from audit.core.resources import resource_dir

CONFIGURATIONS = sorted(path for path in resource_dir("samples").glob("*.toml") if not path.name.startswith("policy-"))


def test_there_are_configurations_to_copy() -> None:
    assert {path.name for path in CONFIGURATIONS} >= {"audit.toml", "full-fashion-mnist.toml", "folder.toml"}


@pytest.mark.parametrize("path", CONFIGURATIONS, ids=lambda path: path.name)
def test_every_sample_configuration_is_valid(path: Path) -> None:
    assert isinstance(load_config(path), RunConfig)


def test_the_default_configuration_is_what_audit_init_writes() -> None:
    assert (resource_dir("samples") / "audit.toml").read_text(encoding="utf-8") == configuration_template()
