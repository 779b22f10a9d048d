import json
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from made_run import made_document
from pydantic import BaseModel
from typer.testing import CliRunner, Result

from audit.cli.app import app
from audit.config import PRESETS, RunConfig, load_config
from audit.config.template import configuration_template
from audit.report.document import to_json


def call(*words: object) -> Result:
    return CliRunner().invoke(app, [str(word) for word in words])


def uncommented(text: str) -> str:
    """With every `# key = value` that has a value, and every commented table, in force."""
    return re.sub(r"^# (?=[a-z_0-9]+ = (?!\.\.\.)|\[)", "", text, flags=re.MULTILINE)


def keys(section: type[BaseModel]) -> Iterator[tuple[str, str]]:
    for name, field in section.model_fields.items():
        nested = field.default if isinstance(field.default, BaseModel) else None
        if nested is None or section is not RunConfig:
            yield name, field.description or ""
        if nested is not None:
            yield from keys(type(nested))


@pytest.mark.parametrize("preset", PRESETS)
def test_the_written_configuration_is_the_preset_as_it_stands_and_uncommented(preset: str, tmp_path: Path) -> None:
    path = tmp_path / "audit.toml"
    assert call("init", "--preset", preset, "--out", tmp_path).exit_code == 0
    assert load_config(path) == load_config(preset=preset)
    path.write_text(uncommented(path.read_text()))
    assert len(tomllib.loads(path.read_text())["training"]) > 20
    assert load_config(path) == load_config(preset=preset)


def test_every_key_is_in_it_and_has_a_meaning() -> None:
    text = configuration_template()
    assert max(len(line) for line in text.splitlines()) <= 120
    for key, meaning in keys(RunConfig):
        assert meaning, f"{key} has no description"
        assert re.search(rf"^(# )?{key}( = |:)", text, re.MULTILINE), key


def test_the_policy_passes_the_run_it_came_from_and_stops_a_worse_one(tmp_path: Path) -> None:
    document = made_document()
    good, worse = tmp_path / "good.json", tmp_path / "worse.json"
    good.write_text(to_json(document))
    assert call("check", good).exit_code == 1
    assert call("init", good, "--out", tmp_path).exit_code == 0
    policy = tmp_path / "policy.toml"
    assert call("check", good, "--policy", policy).exit_code == 0
    fallen = [
        f.model_copy(update={"interval": (0.1, 0.2), "estimate": 0.15}) if f.check == "clean-accuracy" else f
        for f in document.findings
    ]
    worse.write_text(to_json(document.model_copy(update={"findings": fallen})))
    assert call("check", worse, "--policy", policy).exit_code == 1


def test_nothing_is_written_over_without_force(tmp_path: Path) -> None:
    mine = tmp_path / "audit.toml"
    mine.write_text("seed = 7\n")
    refused = call("init", "--out", tmp_path, "--json")
    assert refused.exit_code == 2 and "--force" in json.loads(refused.stdout)["error"]
    assert mine.read_text() == "seed = 7\n"
    assert call("init", "--out", tmp_path, "--force").exit_code == 0
    assert "seed = 7" not in mine.read_text()


def test_a_run_leaves_the_configuration_that_is_there(tmp_path: Path) -> None:
    mine, run = tmp_path / "audit.toml", tmp_path / "audit.json"
    mine.write_text("seed = 7\n")
    run.write_text(to_json(made_document()))
    first = json.loads(call("init", run, "--out", tmp_path, "--json").stdout)
    assert first["written"] == [str(tmp_path / "policy.toml")] and mine.read_text() == "seed = 7\n"
    assert call("init", run, "--out", tmp_path).exit_code == 2


def test_a_run_that_is_not_there_is_a_sentence(tmp_path: Path) -> None:
    shown = call("init", tmp_path / "absent", "--out", tmp_path)
    assert shown.exit_code == 2 and "audit.json" in shown.stderr and not (tmp_path / "audit.toml").exists()
