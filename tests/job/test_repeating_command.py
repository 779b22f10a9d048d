import shlex
from dataclasses import replace
from typing import Any

import pytest
from made_run import made_config, made_dossier, made_facts

from audit.cli.options import overrides, parse_floats
from audit.config import RunConfig, load_config
from audit.report.document import build_document
from audit.runs.reproduce import reproduce_command, section_commands, subject_flags
from tests.job.conftest import SMALL

FLAGS = {
    "--data": "data.source",
    "--architecture": "model.architecture",
    "--labels-map": "data.labels_map",
    "--model": "model.weights",
    "--norm": "robustness.norm",
    "--eps": "robustness.eps",
    "--battery": "robustness.battery",
}


def parsed(command: str) -> RunConfig:
    """What the command line would make of it."""
    words = iter(shlex.split(command)[2:])
    preset, flags, settings = "quick", dict[str, Any](), list[str]()
    for word in words:
        if word == "--preset":
            preset = next(words)
        elif word == "--set":
            settings.append(next(words))
        elif word == "--no-harden":
            flags["hardening.enabled"] = False
        elif word == "--only":
            flags.setdefault("only", []).append(next(words))
        elif word == "--trust":
            flags["model.trust"] = [{"path": next(words)}]
        elif word in ("--mean", "--std"):
            flags[f"model.{word[2:]}"] = parse_floats(next(words), word)
        elif word == "--seed":
            flags["seed"] = int(next(words))
        else:
            flags[FLAGS[word]] = next(words)
    return load_config(preset=preset, overrides=overrides(flags, settings))


@pytest.mark.parametrize(
    "given",
    [
        {},
        SMALL,
        {"preset": "standard", "seed": 4, "hardening": {"enabled": False}, "robustness": {"norm": "l2", "eps": 0.3}},
        {"data": {"source": "folder:my pets"}, "model": {"architecture": "net.py:f", "trust": [{"path": "net.py"}]}},
        {"only": ["robustness", "corruptions"]},
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
def test_the_command_says_the_whole_configuration(given: dict[str, Any]) -> None:
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
    training = {"training": {"epochs": 3, "frozen_epochs": 1}}
    assert subject_flags(load_config(overrides=training)) == "--set training.epochs=3 --set training.frozen_epochs=1"
    assert subject_flags(load_config(overrides={**training, "model": {"weights": "net.pt"}})) == "--model net.pt"


def test_a_findings_command_names_the_model_it_is_about() -> None:
    about = replace(made_facts(), subject="--data folder:pets --model net.pt")
    findings = build_document(made_dossier(), made_config(), about).findings
    commands = {f.check: f.command for f in findings if f.verdict == "fail"}
    assert commands["robust-accuracy"] == "audit harden --preset standard --data folder:pets --model net.pt"
    assert not any("folder:pets" in f.command for f in findings if f.command.startswith("audit methods"))


def test_each_section_has_a_command_that_measures_it_alone() -> None:
    found = section_commands(load_config(overrides=SMALL))
    assert parsed(found.pop("run")) == load_config(overrides=SMALL)
    assert {name: parsed(line) for name, line in found.items()} == {
        name: load_config(overrides={**SMALL, "only": [name]})
        for name in ("accuracy", "robustness", "corruptions", "explanations")
    }
    assert section_commands(load_config(overrides={"only": ["accuracy"]})).keys() == {"run", "accuracy"}
