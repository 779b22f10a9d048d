"""Photographs in folders, from training with the Keras tutorial's augmentation to a prediction with its explanation."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from safetensors import safe_open
from typer.testing import CliRunner, Result

from audit.cli.app import app


def call(*words: object) -> Result:
    return CliRunner().invoke(app, [str(word) for word in words])


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Skies (bright above) and fields (bright below), JPEG files of several sizes, in train and validation folders."""
    root, draw = tmp_path_factory.mktemp("photos"), np.random.default_rng(0)
    for part, count in (("train", 10), ("validation", 2)):
        for name in ("field", "sky"):
            (root / part / name).mkdir(parents=True)
            for number in range(count):
                height, width = (150, 150) if number % 3 else (120, 180)
                pixels = draw.integers(0, 120, (height, width, 3))
                half = slice(0, height // 2) if name == "sky" else slice(height // 2, height)
                pixels[half] += 120
                Image.fromarray(pixels.astype(np.uint8)).save(root / part / name / f"{number}.jpg", quality=90)
    return root


def test_photographs_are_learnt_and_single_ones_predicted(photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    trained = call(
        *("train", "--data", f"folder:{photos}", "--architecture", "cnn-150", "--augmentation", "keras"),
        *("--epochs", 1, "--batch-size", 8, "--device", "cpu", "--out", out, "--json"),
    )
    assert trained.exit_code == 0, trained.output
    document = json.loads((out / "audit.json").read_text())
    assert document["subject"]["input_shape"] == [3, 150, 150] and document["subject"]["classes"] == ["field", "sky"]
    used = document["models"][0]["settings"]["training"]["augmentation"]
    wanted = {"rotation": 40, "shift": 0.2, "shear": 0.2, "zoom": 0.2, "horizontal_flip": True}
    assert {key: used[key] for key in wanted} == wanted
    weights = out / "models" / "standard.safetensors"
    with safe_open(weights, framework="np") as file:
        assert json.loads(file.metadata()["input_shape"]) == [3, 150, 150]
    pictures = [photos / "validation" / name / "0.jpg" for name in ("field", "sky")]
    shown = call("predict", pictures[0], "--model", weights, "--out", tmp_path / "maps", "--device", "cpu", "--json")
    assert shown.exit_code == 0, shown.output
    (row,) = json.loads(shown.stdout)["predictions"]
    assert {one["class"] for one in row["top"]} == {"field", "sky"}
    assert sum(one["probability"] for one in row["top"]) == pytest.approx(1, abs=1e-5)
    with Image.open(row["explanation"]["file"]) as drawn:
        assert drawn.size == (450, 450)
    twins = call("predict", *pictures, "--model", weights, "--out", tmp_path / "maps", "--device", "cpu")
    assert twins.exit_code == 2 and "called alike" in twins.stderr


def test_a_model_is_audited_on_images_of_the_size_and_crop_it_was_trained_on(photos: Path, tmp_path: Path) -> None:
    first = call(
        *("train", "--data", f"folder:{photos}", "--architecture", "cnn-28", "--image-size", 28, "--crop", 0.5),
        *("--batch-size", 8, "--epochs", 1, "--device", "cpu", "--out", tmp_path / "first"),
    )
    assert first.exit_code == 0, first.output
    weights = tmp_path / "first" / "models" / "standard.safetensors"
    again = call(
        *("run", "--data", f"folder:{photos}", "--model", weights, "--no-harden", "--only", "accuracy"),
        *("--device", "cpu", "--out", tmp_path / "second", "--json"),
    )
    assert again.exit_code == 0, again.output
    before, after = (json.loads((tmp_path / out / "audit.json").read_text()) for out in ("first", "second"))
    assert after["subject"]["input_shape"] == [3, 28, 28]
    assert (
        after["subject"]["notes"] == before["subject"]["notes"]
        and "was cut out" in after["subject"]["notes"][0]["text"]
    )
    assert after["outcomes"] == before["outcomes"]
    command = after["protocol"]["commands"]["run"]
    assert "--image-size" not in command and "--crop" not in command  # The file says so again.


def test_a_grey_model_sees_colour_photographs_in_grey(photos: Path, tmp_path: Path) -> None:
    flags = ("--architecture", "cnn-28", "--image-size", 28, "--grayscale", "--batch-size", 8, "--epochs", 1)
    trained = call("train", "--data", f"folder:{photos}", *flags, "--device", "cpu", "--out", tmp_path / "grey")
    assert trained.exit_code == 0, trained.output
    weights = tmp_path / "grey" / "models" / "standard.safetensors"
    looked = call("doctor", "--data", f"folder:{photos}", "--model", weights, "--device", "cpu", "--json")
    assert json.loads(looked.stdout)["preparations"], looked.output
