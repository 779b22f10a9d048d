import shlex
from typing import Any

import pytest

from audit.cli.options import overrides
from audit.config import RunConfig, load_config
from audit.job.command import repeating_command
from tests.job.conftest import SMALL

FLAGS = {
    "--data": "data.source",
    "--architecture": "model.architecture",
    "--norm": "robustness.norm",
    "--eps": "robustness.eps",
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
        elif word == "--trust":
            flags["model.trust"] = [{"path": next(words)}]
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
        {"explanations": {"settings": {"lime": {"samples": 50}}, "baseline": "blur"}, "report": {"title": 'A "b"'}},
    ],
)
def test_the_command_says_the_whole_configuration(given: dict[str, Any]) -> None:
    config = load_config(preset=given.get("preset"), overrides=given)
    assert parsed(repeating_command(config)) == config


def test_a_run_of_a_preset_needs_no_more_than_its_name() -> None:
    assert repeating_command(load_config(preset="standard")) == "audit run --preset standard --seed 0"
