"""`audit doctor --model --data` says what fits, what does not, and what to change."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

from audit.cli.app import app
from tests.models.band_net import band_net

FAITHLESS = """
import torch
from torch import nn

class Noisy(nn.Module):
    def __init__(self):
        super().__init__()
        self.head = nn.Linear(784, 4)
    def forward(self, x):
        y = self.head(x.flatten(1))
        return {body}

def make():
    return Noisy()
"""


def doctor(*words: object) -> Any:
    return CliRunner().invoke(app, ["doctor", *map(str, words), "--no-color"])


def examined(*words: object) -> tuple[dict[str, Any], int]:
    ended = doctor(*words, "--json")
    document = json.loads(ended.stdout)
    return document | {"lines": {one["what"]: one for one in document["examined"]}}, ended.exit_code


def test_a_model_prepared_rightly_is_fine(tmp_path: Path) -> None:
    weights, data = band_net(tmp_path)
    found, code = examined("--model", weights, "--architecture", "cnn-28", "--data", f"npz:{data}", "--std", 1 / 255)
    assert code == 0 and found["advice"] == "" and found["images"] == 100
    assert all(one["fine"] is not False for one in found["examined"])
    assert found["preparations"][0]["accuracy"] == 1.0
    assert {"model", "data", "classes", "preparation", "label order", "eval mode", "determinism"} <= set(found["lines"])


def test_the_preparation_that_fits_is_named_with_its_flags(tmp_path: Path) -> None:
    weights, data = band_net(tmp_path)
    ended = doctor("--model", weights, "--architecture", "cnn-28", "--data", f"npz:{data}")
    assert ended.exit_code == 1
    assert "on 100% with pixels in 0 to 255: give --mean 0 --std 0.003922." in ended.stdout
    assert "100%  pixels in 0 to 255" in ended.stdout


def test_labels_in_another_order_are_named(tmp_path: Path) -> None:
    weights, data = band_net(tmp_path, order=(1, 2, 0, 3))
    words = ("--model", weights, "--architecture", "cnn-28", "--data", f"npz:{data}", "--std", 1 / 255)
    found, code = examined(*words)
    assert code == 1 and found["lines"]["preparation"]["fine"] and not found["lines"]["label order"]["fine"]
    assert "output 0 behaves as '1', output 1 behaves as '2', output 2 behaves as '0'" in found["advice"]


BROKEN = {
    "determinism": "y + torch.rand_like(y)",
    "gradients": "y.detach() + 0 * x.sum()",
    "eval mode": "(self.train(), y)[1]",
}


@pytest.mark.parametrize("line", BROKEN)
@pytest.mark.filterwarnings("ignore")
def test_a_model_that_cannot_be_audited_is_told_why(line: str, tmp_path: Path) -> None:
    _, data = band_net(tmp_path)
    (tmp_path / "net.py").write_text(FAITHLESS.format(body=BROKEN[line]))
    torch.save({f"head.{k}": v for k, v in torch.nn.Linear(784, 4).state_dict().items()}, tmp_path / "net.pt")
    code = ("--architecture", f"{tmp_path}/net.py:make", "--trust", tmp_path / "net.py")
    found, ended = examined("--model", tmp_path / "net.pt", *code, "--data", f"npz:{data}")
    assert ended == 1 and found["lines"][line]["fine"] is False and found["lines"][line]["found"].endswith(".")


def test_a_data_set_without_a_model_and_other_classes_get_a_sentence(tmp_path: Path) -> None:
    weights, _ = band_net(tmp_path)
    for words, said in (
        (("--data", "sample"), "give a checkpoint with --model"),
        (("--model", weights, "--architecture", "cnn-28", "--data", "sample"), "of another shape"),
    ):
        ended = doctor(*words)
        assert ended.exit_code == 2 and said in ended.stderr and "Traceback" not in ended.stderr
