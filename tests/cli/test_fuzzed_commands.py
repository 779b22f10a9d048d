"""Whatever words follow `audit`, it ends with a sentence and a code of the table, never in a traceback.

`AUDIT_FUZZ=2000 HYPOTHESIS_PROFILE=wild pytest tests/cli/test_fuzzed_commands.py` looks longer and elsewhere.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import typer
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from typer.testing import CliRunner

from audit.cli.app import app
from audit.config import load_config
from audit.core.errors import Interrupted
from audit.models.architecture import build
from audit.report.document import to_json
from tests.made_run import made_document

CODES = {0, 1, 2, 3, 4, 5, 130}
COMMANDS: dict[str, Any] = typer.main.get_command(app).commands  # type: ignore[attr-defined]
CHEAP = sorted(set(COMMANDS) - {"run", "train", "harden", "compress", "plan", "doctor", "predict"})
EXAMPLES = int(os.environ.get("AUDIT_FUZZ", "0"))


def keys(table: object, prefix: str = "") -> Iterator[str]:
    for name in type(table).model_fields:  # type: ignore[attr-defined]
        value = getattr(table, name)
        yield prefix + name
        if hasattr(type(value), "model_fields"):
            yield from keys(value, f"{prefix}{name}.")


KEYS = [
    *keys(load_config()),
    "",
    "x",
    "data.x",
    "data.source.y",
    "..",
    "robustness.",
    ".eps",
    "explanations.settings.lime",
]
NUMBERS = [
    "0",
    "-1",
    "1",
    "2",
    "3.5",
    "1e400",
    "-1e-400",
    "nan",
    "inf",
    "-inf",
    "8/255",
    "1/0",
    "0x10",
    "1_000",
    "9" * 30,
]
WORDS = [
    "",
    " ",
    "a",
    "ü",
    "模型",
    "\x1b[31m",
    "\u202e",
    "a\nb",
    "[bold]",
    "{x}",
    "%s",
    "x" * 300,
    ",",
    ",,",
    "1,2",
    "a=b",
]
WORDS += [
    "[1",
    "[]",
    "[1]",
    "{}",
    '["a"]',
    "[{}]",
    "{a=1}",
    "true",
    "null",
    "--json",
    "-",
    "--",
    "=",
    ":",
    "a:b",
    "'",
    '"',
]
NAMES = [
    "quick",
    "standard",
    "linf",
    "l2",
    "l1",
    "cpu",
    "cuda",
    "all",
    "pgd",
    "pgd,fgsm",
    "saliency",
    "cnn-28",
    "horizontal",
]
PATHS = [
    ".",
    "..",
    "empty",
    "text",
    "binary",
    "absent/file",
    "net.pt",
    "net.pt/x",
    "run",
    "run/audit.json",
    "cut",
    "net.py",
]
PATHS += [
    "net.py:make",
    "net.py:none",
    "photo.png",
    "photos",
    "text.toml",
    "utf16.toml",
    "fine.toml",
    "hf:photos",
    "onnx.onnx",
]
SOURCES = [
    "sample",
    "sample:",
    "sample:3",
    "folder:photos",
    "folder:empty",
    "folder:text",
    "folder:",
    "npz:binary",
    "csv:text",
]
SOURCES += [
    "fashion-mnist:empty",
    "cifar10:empty",
    "hf:empty",
    "parquet:binary",
    "image:photo.png",
    "image:text",
    "x:y",
    "npz:cut",
]
VALUES = st.one_of(*map(st.sampled_from, (NUMBERS, WORDS, NAMES, PATHS, SOURCES)), st.text(max_size=5))
SETTINGS = st.builds("{}={}".format, st.sampled_from(KEYS), st.one_of(VALUES, st.sampled_from(NUMBERS)))


@st.composite
def invocations(draw: st.DrawFn, names: list[str]) -> list[str]:
    """A command with a few of its flags and arguments, most of them wrong."""
    name = draw(st.sampled_from(names))
    flags = [item for item in COMMANDS[name].params if item.opts[0].startswith("--") and item.name != "help"]
    words = [name]
    for _ in range(draw(st.integers(0, 4))):
        kind = draw(st.integers(0, 9))
        if kind == 0:
            words.append(draw(st.sampled_from(["--nope", "-z", "--json=x", "--out", "--set", "-v"])))
        elif kind < 4 or not flags:
            words.append(draw(st.one_of(st.sampled_from(PATHS), VALUES)))
        else:
            flag = draw(st.sampled_from(flags))
            words.append(draw(st.sampled_from([*flag.opts, *flag.secondary_opts])))
            if not getattr(flag, "is_flag", False):
                words.append(draw(SETTINGS if flag.name == "settings" else VALUES))
    return [*words, *draw(st.sampled_from([[], ["--json"]]))]


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a little of everything, right and wrong."""
    base = tmp_path_factory.mktemp("desk")
    (base / "empty").mkdir()
    (base / "text").write_text("seven\n")
    (base / "text.toml").write_text("seed = 'x'\n[data")
    (base / "fine.toml").write_text("seed = 3\n")
    (base / "utf16.toml").write_bytes("seed = 3\n".encode("utf-16"))
    for name in ("binary", "onnx.onnx"):
        (base / name).write_bytes(bytes(range(256)))
    net = build("cnn-28", classes=2, input_shape=(3, 28, 28), seed=0)
    torch.save(net.state_dict(), base / "net.pt")
    (base / "net.py").write_text("def make():\n    raise SystemExit('no')\n")
    document = to_json(made_document())
    for folder in ("run", "cut"):
        (base / folder).mkdir()
        (base / folder / "audit.json").write_text(document if folder == "run" else document[:1000])
    for part in ("train", "test"):
        for number, name in enumerate(("a", "b")):
            (base / "photos" / part / name).mkdir(parents=True)
            for i in range(3):
                pixels = np.full((28, 28, 3), 100 * number + 10 * i, np.uint8)
                Image.fromarray(pixels).save(base / "photos" / part / name / f"{i}.png")
    Image.fromarray(np.zeros((28, 28, 3), np.uint8)).save(base / "photo.png")
    return base


@pytest.fixture
def at_desk(desk: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """In that folder, with runs that end where they would begin to compute; tracebacks go to a scratch folder."""

    def stop(*args: object, **options: object) -> None:
        raise Interrupted("Stopped.")

    monkeypatch.chdir(desk)
    monkeypatch.setattr("audit.runs.pipeline._run_in", stop)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))


def hold(words: list[str]) -> None:
    ended = CliRunner().invoke(app, words)
    assert ended.exit_code in CODES, (words, ended.output)
    assert ended.exception is None or isinstance(ended.exception, SystemExit), words
    assert "Traceback" not in ended.output or "-v" in words or "--verbose" in words, (words, ended.output)
    if ended.exit_code in (2, 4, 5) and words != ["doctor"]:
        said = [line for line in ended.stderr.splitlines() if line.startswith("error: ")]
        assert len(said) == 1 or words[0] == "doctor", (words, ended.output)
    if "--json" in words and not {"--help", "-h"} & set(words):
        json.loads(ended.stdout)


fuzz = settings(deadline=None, suppress_health_check=list(HealthCheck), max_examples=EXAMPLES or 40)
few = settings(fuzz, max_examples=EXAMPLES or 8)


@fuzz
@given(words=invocations(CHEAP))
def test_commands_that_read_runs_end_in_a_sentence(words: list[str], at_desk: None) -> None:
    hold(words)


@few
@given(words=invocations(sorted(set(COMMANDS) - set(CHEAP))))
def test_commands_that_make_runs_end_in_a_sentence(words: list[str], at_desk: None) -> None:
    hold(words)


@fuzz
@given(words=st.lists(st.one_of(VALUES, st.sampled_from(["--json", "--help", "-v", *COMMANDS])), max_size=3))
def test_any_words_end_in_a_sentence(words: list[str], at_desk: None) -> None:
    if not {"run", "train", "harden", "compress", "plan", "doctor", "predict"} & set(words):
        hold(words)
