"""A run of numbered classes beside a model, and of data with one part: what is counted, held out and not hardened."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save
from typer.testing import CliRunner

from audit.cli.app import app
from audit.config import load_config
from audit.core.errors import DataError, ModelError, UsageError
from audit.models.architecture import build
from audit.models.formats.safetensors_file import with_metadata
from audit.runs.checkpoint_metadata import read_metadata
from audit.runs.run_setup import RunSetup
from audit.runs.setup import set_up

BRIGHTNESS = '''
import torch

class Brightness(torch.nn.Module):
    """Output k answers to images of brightness 0.05 + 0.07 k."""
    def __init__(self, outputs):
        super().__init__()
        self.levels = torch.nn.Parameter(0.05 + 0.07 * torch.arange(outputs))
    def forward(self, images):
        return -200 * (images.mean((1, 2, 3))[:, None] - self.levels) ** 2

def twelve():
    return Brightness(12)
'''


@pytest.fixture
def brightness(tmp_path: Path) -> dict[str, Any]:
    """The [model] table of a net that reads brightness as one of twelve classes."""
    (tmp_path / "net.py").write_text(BRIGHTNESS)
    torch.save({"levels": 0.05 + 0.07 * torch.arange(12)}, tmp_path / "net.pt")
    return {
        "architecture": f"{tmp_path}/net.py:twelve",
        "weights": str(tmp_path / "net.pt"),
        "trust": [str(tmp_path / "net.py")],
    }


def grey(path: Path, level: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((12, 12), round(255 * (0.05 + 0.07 * level)), np.uint8)).save(path)


def untrained(path: Path, outputs: int) -> dict[str, Any]:
    net = build("cnn-28", classes=outputs, input_shape=(1, 12, 12), seed=0)
    torch.save(net.state_dict(), path / "net.pth")
    return {"architecture": "cnn-28", "weights": str(path / "net.pth")}


def ready(source: str, model: dict[str, Any], **tables: Any) -> RunSetup:
    data = {"source": source, "grayscale": True, **tables.pop("data", {})}
    return set_up(load_config(overrides={"data": data, "model": model, "device": "cpu", **tables}))


def said(setup: RunSetup) -> str:
    return " ".join(map(str, setup.dataset.notes))


def listed(path: Path, labels: Sequence[object]) -> str:
    for i, _ in enumerate(labels):
        grey(path / f"{i}.png", i % 12)
    rows = "".join(f"{i}.png,{label}\n" for i, label in enumerate(labels))
    (path / "list.csv").write_text("path,label\n" + rows)
    return f"manifest:{path / 'list.csv'}"


@pytest.mark.parametrize(
    ("outputs", "labels", "numbers", "sentence"),
    [
        (3, [1, 2, 3], [0, 1, 2], "count from 1"),
        (4, [1, 2, 3], [1, 2, 3], "counted from 0; no image has the label 0"),
        (3, [0, 2, 5], [0, 1, 2], "as many as there are labels"),
        (6, [0, 2, 5], [0, 2, 5], "Labels that no image has: 3 (1, 3, 4)"),
        (10, [0, 5, 2], [0, 5, 2], "10 outputs and the data labels up to 5"),
        (3, ["2.0", "0.0", "1.0"], [2, 0, 1], ""),
    ],
)
def test_numbers_are_counted_as_the_outputs_are(
    outputs: int, labels: list[object], numbers: list[int], sentence: str, tmp_path: Path
) -> None:
    setup = ready(listed(tmp_path, labels * 2), untrained(tmp_path, outputs))
    assert setup.dataset.test.labels.tolist() == numbers * 2 and len(setup.dataset.classes) == outputs
    assert sentence in said(setup)
    assert ("count from 1" in said(setup)) == ("count from 1" in sentence)


def test_numbers_that_fit_no_counting_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="It has 9 outputs and 3 classes were expected"):
        ready(listed(tmp_path, [1, 2, 3]), untrained(tmp_path, 9))


def test_numbered_folders_are_in_the_order_the_model_knows(tmp_path: Path, brightness: dict[str, Any]) -> None:
    for label in range(12):
        for i in range(3):
            grey(tmp_path / "by number" / str(label) / f"{i}.png", label)
    setup = ready(f"folder:{tmp_path}/by number", brightness)
    assert setup.dataset.classes == tuple(map(str, range(12))) and "36 of 36 images right" in said(setup)
    assert setup.dataset.test.labels[setup.dataset.test.ids.index("10/0.png")] == 10
    for label in range(12):
        grey(tmp_path / "mixed" / f"{'Class' if label % 2 else 'class'} {label}" / "0.png", label)
    assert ready(f"folder:{tmp_path}/mixed", brightness).dataset.classes[:3] == ("class 0", "Class 1", "class 2")
    for output, name in enumerate(sorted(map(str, range(12)))):  # as a model trained by torchvision's ImageFolder
        for i in range(3):
            grey(tmp_path / "by text" / name / f"{i}.png", output)
    setup = ready(f"folder:{tmp_path}/by text", brightness)
    assert setup.dataset.classes[:4] == ("0", "1", "10", "11") and "in the order of text" in said(setup)


def photos(path: Path, *, each: int = 5) -> str:
    for label, name in enumerate(("cat", "dog")):
        for i in range(each):
            grey(path / "photos" / name / f"{i}.png", 10 * label)
    return f"folder:{path / 'photos'}"


def test_a_model_and_test_images_alone_are_audited_without_hardening(tmp_path: Path) -> None:
    setup = ready(photos(tmp_path), untrained(tmp_path, 2))
    assert not setup.config.hardening.enabled and setup.dataset.train is None and len(setup.dataset.test) == 10
    assert "no training images, so the model is audited as it is and not hardened" in said(setup)


def test_hardening_that_is_asked_for_holds_images_out(tmp_path: Path) -> None:
    setup = ready(photos(tmp_path), untrained(tmp_path, 2), hardening={"enabled": True})
    assert setup.config.hardening.enabled and setup.dataset.train is not None
    assert (len(setup.dataset.train), len(setup.dataset.test)) == (8, 2) and "held out" in said(setup)


def test_a_training_holds_images_out_and_names_the_share(tmp_path: Path) -> None:
    setup = ready(photos(tmp_path), {"architecture": "cnn-28"}, data={"test_share": 0.4}, seed=3)
    assert len(setup.dataset.test) == 4 and "40% of each class drawn by seed 3" in said(setup)
    assert ready(photos(tmp_path), {"architecture": "cnn-28"}).subject.train_examples == 8


def test_a_share_needs_data_of_one_part(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"--test-share .* a train and a test part"):
        ready("sample", {"architecture": "cnn-28"}, data={"test_share": 0.4, "grayscale": False})
    with pytest.raises(UsageError, match="no class with two labelled images"):
        ready(photos(tmp_path, each=1), {"architecture": "cnn-28"}, data={"test_share": 0.4})


def test_a_header_puts_folders_that_lack_a_class_in_its_order(tmp_path: Path) -> None:
    from audit.api.training import train

    images = torch.rand(6, 1, 12, 12, generator=torch.Generator().manual_seed(0))
    trained = train(images, torch.arange(6) % 3, classes=("dog", "owl", "cat"), architecture="cnn-28", epochs=1,
                    batch_size=3, device="cpu")  # fmt: skip
    trained.save(tmp_path / "net.safetensors")
    setup = ready(photos(tmp_path), {"weights": str(tmp_path / "net.safetensors")})
    assert setup.dataset.classes == ("dog", "owl", "cat") and set(setup.dataset.test.labels.tolist()) == {0, 2}
    grey(tmp_path / "photos" / "fox" / "0.png", 3)
    with pytest.raises((DataError, ModelError), match="was trained on the classes dog, owl, cat"):
        ready(f"folder:{tmp_path / 'photos'}", {"weights": str(tmp_path / "net.safetensors")})


def two_outputs(path: Path, names: Sequence[str], **header: str) -> dict[str, Any]:
    """Weights whose header says which classes they were trained on."""
    state = build("cnn-28", classes=2, input_shape=(1, 12, 12), seed=0).state_dict()
    said = {"architecture": "cnn-28", "classes": json.dumps(names), "input_shape": "[1, 12, 12]", "mean": "[0.3]"}
    path.write_bytes(with_metadata(save(state), {**said, "std": "[0.2]", **header}))
    return {"weights": str(path)}


@pytest.mark.parametrize(
    ("folders", "header", "differs"),
    [
        (("boot", "coat"), {}, True),
        (("boot", "coat"), {"numbered": "true"}, False),  # `audit.train(classes=2)`: numbers that are no names
        (("0", "1"), {}, False),
        (("digit 0", "digit 1"), {}, False),
        (("1", "zero"), {}, False),  # one in common: no other data
    ],
)
def test_classes_called_by_digits_are_compared_with_those_of_the_data(
    tmp_path: Path, folders: tuple[str, str], header: dict[str, str], differs: bool
) -> None:
    for name in folders:
        for i in range(3):
            grey(tmp_path / "photos" / name / f"{i}.png", i)
    weights = two_outputs(tmp_path / "net.safetensors", ["0", "1"], **header)
    setup = ready(f"folder:{tmp_path / 'photos'}", weights)
    sentence = (
        f"net.safetensors calls its outputs 0, 1, ... and the data its classes {', '.join(folders)}, ...: they are"
    )
    assert (sentence in said(setup)) == differs
    assert setup.dataset.classes == (("0", "1") if folders == ("0", "1") else folders)
    ended = CliRunner().invoke(
        app,
        ["doctor", "--model", weights["weights"], "--data", f"folder:{tmp_path / 'photos'}", "--grayscale", "--json"],
    )
    rows = [row for row in json.loads(ended.stdout)["examined"] if row["what"] == "classes"]
    assert len(rows) == 1 and rows[0]["fine"] is (None if differs else True)
    assert ("calls its outputs 0, 1" in rows[0]["found"]) == differs


def test_weights_of_counted_classes_say_so(tmp_path: Path) -> None:
    from audit.api.training import train

    images = torch.rand(4, 1, 12, 12, generator=torch.Generator().manual_seed(0))
    for classes, numbered in ((2, True), (("boot", "coat"), False)):
        train(
            images, torch.arange(4) % 2, classes=classes, architecture="cnn-28", epochs=1, batch_size=2, device="cpu"
        ).save(tmp_path / "net.safetensors")
        assert ("numbered" in read_metadata(str(tmp_path / "net.safetensors"))) == numbered
