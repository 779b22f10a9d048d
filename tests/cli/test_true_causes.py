"""What a wrong invocation is told names its own cause, and what is advised works as it is written."""

from __future__ import annotations

import io
import logging
import shlex
from pathlib import Path

import pytest
from rich.console import Console
from typer.testing import CliRunner, Result

from audit.cli.app import app
from audit.cli.terminal import Terminal, _logging_to
from audit.config import load_config
from audit.report.document import to_json
from tests.made_run import made_document


def call(*words: object) -> Result:
    return CliRunner().invoke(app, [str(word) for word in words])


@pytest.fixture
def run(tmp_path: Path) -> Path:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "audit.json").write_text(to_json(made_document()))
    return tmp_path / "run"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[rules]\na = 1\n", "line 1: rules: Unknown key 'rules'. Known: checks, default."),
        (
            "[default]\n\n[checks.backdoor]\nminimun = 1\n",
            "line 4: checks.backdoor.minimun: Unknown key 'minimun'. Did",
        ),
        ("[checks.backdoor]\nminimum = 'high'\n", "line 2: checks.backdoor.minimum: Input should be a valid number"),
        (
            "[default]\nlevel = 'fatal'\n",
            "line 2: default.level: Input should be 'off', 'warn' or 'error', but 'fatal'",
        ),
        ("[checks.nope]\n", "line 1: Unknown check 'nope'"),
    ],
)
def test_a_wrong_policy_is_told_by_line(text: str, said: str, run: Path, tmp_path: Path) -> None:
    (tmp_path / "policy.toml").write_text(text)
    ended = call("check", run, "--policy", tmp_path / "policy.toml")
    assert ended.exit_code == 2 and f"policy.toml, {said}" in ended.stderr


def test_init_names_the_file_that_it_wrote(tmp_path: Path) -> None:
    ended = call("init", "--out", tmp_path / "my settings")
    _, command, _ = ended.stderr.replace("audit run ", "\x00", 1).replace(", then", "\x00", 1).split("\x00")
    (file,) = shlex.split(command)
    assert load_config(Path(file)) == load_config()


@pytest.mark.parametrize("command", [["show"], ["check"], ["report"], ["compare", "other"]])
def test_a_run_that_has_not_ended_is_told_from_a_folder_without_one(command: list[str], tmp_path: Path) -> None:
    (tmp_path / "begun").mkdir()
    (tmp_path / "begun" / "run.json").write_text('{"tool": "audit", "format": 1}\n')
    ended = call(command[0], tmp_path / "begun", *command[1:])
    assert ended.exit_code == 3 and "has not finished" in ended.stderr
    assert call(command[0], tmp_path, *command[1:]).exit_code == 2


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("resnet50", "write torchvision:resnet50"),
        ("reznet", "Unknown architecture 'reznet'"),
        ("absent.py:make", "'absent.py' is no file; a module of your own is --architecture FILE.py:FUNCTION"),
    ],
)
def test_an_architecture_that_is_not_here_is_told_where_it_is(name: str, said: str, tmp_path: Path) -> None:
    ended = call("run", "--architecture", name, "--out", tmp_path / "out")
    assert ended.exit_code == 2 and said in ended.stderr


@pytest.mark.parametrize("command", ["run", "train", "plan"])
@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--mean", ".485,.456,.406", "--std", ".229,.224,.225"], "mean has 3 values for images of 1 channel"),
        (["--std", "0"], "must be positive"),
        (["--mean", "nan"], "(nan,) was given"),
    ],
)
def test_a_normalisation_that_cannot_be_is_refused_before_training(
    command: str, flags: list[str], said: str, tmp_path: Path
) -> None:
    ended = call(command, *flags, "--out", tmp_path / "out")
    assert ended.exit_code == 2 and said in ended.stderr and "to know" not in ended.stderr


def test_code_given_as_weights_is_told_its_flag(tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text("def make(): ...")
    ended = call("run", "--model", tmp_path / "net.py", "--out", tmp_path / "out")
    assert ended.exit_code == 2 and f"--architecture {tmp_path / 'net.py'}:FUNCTION" in ended.stderr


def test_a_warning_is_as_wide_as_its_words() -> None:
    stream = io.StringIO()
    terminal = Terminal(Console(), Console(file=stream, width=10_000), as_json=False, quiet=False, verbose=False)
    with _logging_to(terminal):
        logging.getLogger("audit.x").warning("Stored evidence [bold] is damaged.")
        logging.getLogger("audit.x").info("Nothing.")
    assert stream.getvalue() == "WARNING  Stored evidence [bold] is damaged.\n"
