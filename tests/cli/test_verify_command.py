"""`audit verify`: its first line, its exit codes, what it writes."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy
import pytest
from onnx_nets import property_text, random_layers, write_net
from typer.testing import CliRunner, Result

from audit.cli.app import app

LOW, HIGH = [-1.0, 0.0], [1.0, 0.5]


def call(*words: object) -> Result:
    return CliRunner().invoke(app, ["verify", *(str(word) for word in words)])


@pytest.fixture
def net(tmp_path: Path) -> Path:
    """The outputs are the inputs."""
    return write_net(tmp_path / "net.onnx", [(numpy.eye(2, dtype="float32"), numpy.zeros(2, "float32"))], [1, 2])


def specification(tmp_path: Path, condition: str, outputs: int = 2) -> Path:
    path = tmp_path / "spec.vnnlib"
    path.write_text(property_text(LOW, HIGH, outputs, condition))
    return path


def test_sat_comes_with_its_counterexample(net: Path, tmp_path: Path) -> None:
    target = tmp_path / "found" / "counterexample.txt"
    spec = specification(tmp_path, "(assert (>= Y_0 0.9))\n(assert (<= Y_1 0.1))")
    shown = call(net, spec, "--counterexample", target)
    assert shown.exit_code == 1
    first, rest = shown.stdout.split("\n", 1)
    assert first == "sat" and rest == target.read_text()
    values = {name: float(value) for name, value in re.findall(r"\((\w_\d) ([^()]+)\)", rest)}
    assert rest.startswith("((X_0 ") and rest.endswith("))\n") and list(values) == ["X_0", "X_1", "Y_0", "Y_1"]
    assert 0.9 <= values["Y_0"] <= 1 and 0 <= values["X_1"] <= 0.1


def test_unsat_is_one_word_and_writes_nothing(net: Path, tmp_path: Path) -> None:
    target = tmp_path / "counterexample.txt"
    shown = call(net, specification(tmp_path, "(assert (>= Y_0 1.1))"), "--counterexample", target)
    assert (shown.exit_code, shown.stdout) == (0, "unsat\n")
    assert not target.exists()


def test_unknown_says_why(tmp_path: Path) -> None:
    net = write_net(tmp_path / "net.onnx", random_layers([2, 4, 2], 0), [1, 2], ending=["Sin"])
    shown = call(net, specification(tmp_path, "(assert (>= Y_0 1.5))"))
    assert shown.exit_code == 3 and shown.stdout == "unknown\n" and "sin" in shown.stderr.lower()


def test_the_json_document_holds_everything(net: Path, tmp_path: Path) -> None:
    document = json.loads(call(net, specification(tmp_path, "(assert (>= Y_0 0.9))"), "--json").stdout)
    assert document["verdict"] == "sat" and document["counterexample"]["Y"][0] >= 0.9
    document = json.loads(call(net, specification(tmp_path, "(assert (>= Y_0 1.1))"), "--json").stdout)
    assert document["verdict"] == "unsat" and document["counterexample"] is None


def test_wrong_input_is_a_sentence_with_exit_code_two(net: Path, tmp_path: Path) -> None:
    target = tmp_path / "counterexample.txt"
    good = specification(tmp_path, "(assert (>= Y_0 0.9))")
    bad = tmp_path / "bad.vnnlib"
    bad.write_text(good.read_text() + "(assert (>= Y_7 0))\n")
    calls = [
        ((net, bad), "bad.vnnlib, line 11: Y_7 is not declared"),
        ((net, tmp_path / "absent.vnnlib"), "No such file or directory; name a file that is there"),
        ((tmp_path / "absent.onnx", good), "cannot be read"),
        ((good, good), "not a valid ONNX file"),
        ((net, good, "--timeout", "soon"), "--timeout"),
        ((net, good, "--timeout", "0"), "--timeout"),
        ((net, good, "--counterexample", tmp_path), "is a folder"),
    ]
    for words, sentence in calls:
        shown = call(*words, *([] if "--counterexample" in words else ["--counterexample", target]))
        assert shown.exit_code == 2 and sentence in shown.stderr, (words, shown.stderr)
        assert shown.stdout == "" and not target.exists()
    other = write_net(tmp_path / "other.onnx", random_layers([3, 2], 0), [1, 3])
    shown = call(other, good)
    assert shown.exit_code == 2 and "other.onnx has 3 inputs" in shown.stderr


def test_help_tells_the_exit_codes() -> None:
    shown = " ".join(call("--help").stdout.split())
    assert "Exit 0 for unsat, 1 for sat, 3 for unknown" in re.sub(r"[│\s]+", " ", shown)
