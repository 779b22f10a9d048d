import shlex
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from made_run import made_config, made_facts, made_results
from typer.testing import CliRunner

from audit.cli.app import app
from audit.cli.run_command import RunRequest
from audit.config import RunConfig, load_config
from audit.core.topic import measured_sections
from audit.report.document import build_document
from audit.runs.reproduce import reproduce_command, section_commands, subject_flags
from tests.runs.conftest import SMALL

Parse = Callable[[str], RunConfig]


@pytest.fixture
def parsed(monkeypatch: pytest.MonkeyPatch) -> Parse:
    """What the command line makes of a command that is pasted back, without running it."""
    requests: list[RunRequest] = []
    monkeypatch.setattr("audit.cli.run_command.run_and_report", lambda request, terminal: requests.append(request))

    def parse(command: str) -> RunConfig:
        program, *words = shlex.split(command)
        shown = CliRunner().invoke(app, words)
        assert program == "audit" and requests, shown.output
        return requests.pop().config

    return parse


@pytest.mark.parametrize(
    "given",
    [
        {},
        SMALL,
        {"preset": "standard", "seed": 4, "hardening": {"enabled": False}, "robustness": {"norm": "l2", "eps": 0.3}},
        {"data": {"source": "folder:my pets"}, "model": {"architecture": "net.py:f", "trust": [{"path": "net.py"}]}},
        {"only": ["robustness", "corruptions"]},
        {"data": {"rotate": -15.0, "flip": "vertical", "grayscale": True, "strict": True}, "report": {"images": False}},
        {"robustness": {"examples": 40}, "corruptions": {"examples": 40}},
        {"robustness": {"examples": 40}, "corruptions": {"examples": 41}, "report": {"gallery": 200}},
        {
            "model": {"weights": "net.pt", "mean": [0.1, 0.25, 1 / 3], "std": [0.5]},
            "data": {"labels_map": "my map.txt"},
        },
        {"explanations": {"settings": {"lime": {"samples": 50}}, "baseline": "blur"}, "report": {"title": 'A "b"'}},
        {"robustness": {"battery": "apgd-ce,square"}},
        {
            "robustness": {
                "battery": [
                    {"attack": "apgd-ce", "settings": {"steps": 30, "give_up": True}, "title": 'a "b"'},
                    {"attack": "square", "sample": 16, "hardest": 0.3},
                ]
            }
        },
    ],
)
def test_the_command_says_the_whole_configuration(given: dict[str, Any], parsed: Parse) -> None:
    config = load_config(preset=given.get("preset"), overrides=given)
    assert parsed(reproduce_command(config)) == config


def test_a_run_of_a_preset_needs_no_more_than_its_name() -> None:
    assert reproduce_command(load_config(preset="standard")) == "audit run --preset standard --seed 0"


def test_another_command_is_told_of_the_same_subject() -> None:
    given = {"seed": 4, "data": {"source": "folder:my pets"}, "model": {"weights": "net.pt", "architecture": "cnn-32"}}
    config = load_config(preset="standard", overrides={**given, "robustness": {"examples": 9}})
    assert subject_flags(config) == "--seed 4 --data 'folder:my pets' --architecture cnn-32 --model net.pt"
    assert subject_flags(load_config(preset="standard")) == ""


def test_a_model_trained_here_is_the_same_only_by_the_same_training() -> None:
    training = {"training": {"epochs": 5, "frozen_epochs": 1}}
    assert subject_flags(load_config(overrides=training)) == "--set training.epochs=5 --set training.frozen_epochs=1"
    assert subject_flags(load_config(overrides={**training, "model": {"weights": "net.pt"}})) == "--model net.pt"


def test_a_findings_command_names_the_model_it_is_about() -> None:
    about = replace(made_facts(), subject="--data folder:pets --model net.pt")
    findings = build_document(made_results(), made_config(), about).findings
    commands = {f.check: f.command for f in findings if f.verdict == "fail"}
    assert commands["robust-accuracy"] == "audit harden --preset standard --data folder:pets --model net.pt"
    assert not any("folder:pets" in f.command for f in findings if f.command.startswith("audit methods"))


USUAL, LONGER = (load_config(preset=preset).training.epochs for preset in ("quick", "standard"))


@pytest.mark.parametrize(
    ("preset", "epochs", "advised"),
    [("quick", 1, LONGER), ("quick", 40, 80), ("standard", LONGER, 2 * LONGER), ("quick", USUAL, None)],
    ids=["fewer", "more", "the preset's own", "the default"],
)
def test_whoever_is_told_to_train_longer_is_told_more_epochs_than_were_trained(
    preset: str, epochs: int, advised: int | None
) -> None:
    config = load_config(
        preset=preset, overrides={"training": {"epochs": epochs}, "criteria": {"clean_accuracy": 0.99}}
    )
    about = replace(made_facts(), subject=subject_flags(config))
    findings = build_document(made_results(), config, about).findings
    (command,) = {f.command for f in findings if f.check == "clean-accuracy" and f.verdict == "fail"}
    expected = "audit run --preset standard" + (f" --set training.epochs={advised}" if advised else "")
    assert command == expected


def test_each_section_has_a_command_that_measures_it_alone(parsed: Parse) -> None:
    found = section_commands(load_config(overrides=SMALL))
    assert parsed(found.pop("run")) == load_config(overrides=SMALL)
    assert {name: parsed(line) for name, line in found.items()} == {
        name: load_config(overrides={**SMALL, "only": [name]}) for name in measured_sections("classification")
    }
    assert section_commands(load_config(overrides={"only": ["accuracy"]})).keys() == {"run", "accuracy"}


def test_a_key_that_has_a_flag_is_named_by_it() -> None:
    both = {"robustness": {"examples": 40}, "corruptions": {"examples": 40}, "data": {"grayscale": True}}
    assert reproduce_command(load_config(overrides=both)) == (
        "audit run --preset quick --seed 0 --grayscale --examples 40"
    )
    apart = {"robustness": {"examples": 40, "battery": "full"}, "corruptions": {"examples": 41}}
    assert reproduce_command(load_config(overrides=apart)) == (
        "audit run --preset quick --seed 0 --battery full --set robustness.examples=40 --set corruptions.examples=41"
    )


def test_the_subject_of_a_run_is_that_of_a_hardening(parsed: Parse) -> None:
    given = {"seed": 4, "data": {"source": "folder:my pets"}, "model": {"pretrained": "net.pt", "mean": [0.5]}}
    given |= {"robustness": {"norm": "l2", "eps": 0.5}, "training": {"epochs": 2}}
    config = load_config(overrides=given)
    again = parsed(f"audit harden {subject_flags(config)}")
    assert (again.data, again.model, again.training) == (config.data, config.model, config.training)
    assert (again.robustness, again.seed) == (config.robustness, 4)
