"""Single pictures under a model: what `audit predict` says is what the model says, and bad pictures get a sentence."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.numpy import save
from torch import nn
from typer.testing import CliRunner, Result

import audit
from audit.cli.app import app
from audit.config import DataConfig
from audit.models.formats.safetensors_file import with_metadata
from audit.report.overlay import overlay_png
from audit.runs.checkpoint_metadata import preparation_header
from audit.runs.predict import predict_pictures
from tests.training.toy import thirds

CLASSES = ("top", "middle", "bottom")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    settings = {"epochs": 3, "batch_size": 30, "learning_rate": 0.02}
    batch = thirds(240, size=12)
    made = audit.train(batch.images, batch.labels, classes=CLASSES, architecture="cnn-28", device="cpu", **settings)
    path = tmp_path_factory.mktemp("model") / "net.safetensors"
    made.save(path)
    return path


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    """A grey 12 x 12 PNG whose bottom third is bright."""
    pixels = (thirds(3, seed=5, size=12).images[2, 0] * 255).round().to(torch.uint8).numpy()
    Image.fromarray(pixels).save(tmp_path / "one.png")
    return tmp_path / "one.png"


def call(*words: object) -> Result:
    return CliRunner().invoke(app, ["predict", *map(str, words), "--device", "cpu"])


def test_a_folder_and_a_pattern_are_the_pictures_in_them(checkpoint: Path, picture: Path, tmp_path: Path) -> None:
    for name in ("b.png", "a.png", "notes.txt"):
        (tmp_path / name).write_bytes(picture.read_bytes() if name != "notes.txt" else b"no picture")
    given = ["--model", checkpoint, "--explain", "none", "--json"]
    names = {
        words: [row["image"] for row in json.loads(call(words, *given).stdout)["predictions"]]
        for words in (tmp_path, tmp_path / "[ab].png")
    }
    assert names == {tmp_path: ["a.png", "b.png", "one.png"], tmp_path / "[ab].png": ["a.png", "b.png"]}
    (tmp_path / "empty").mkdir()
    for words, sentence in ((tmp_path / "empty", "holds no picture itself"), (tmp_path / "*.gif", "No file fits")):
        refused = call(words, *given)
        assert refused.exit_code == 2 and sentence in refused.stderr, refused.stderr


def test_the_probabilities_are_those_of_the_model(checkpoint: Path, picture: Path, tmp_path: Path) -> None:
    shown = call(picture, "--model", checkpoint, "--out", tmp_path / "maps", "--json")
    assert shown.exit_code == 0, shown.output
    (row,) = json.loads(shown.stdout)["predictions"]
    assert row["image"] == "one.png" and row["top"][0]["class"] == "bottom"
    assert sum(one["probability"] for one in row["top"]) == pytest.approx(1, abs=1e-5)
    with Image.open(picture) as opened:
        pixels = torch.from_numpy(np.array(opened)).float()[None, None] / 255
    header = _header(checkpoint)
    model = audit.wrap(
        _module(checkpoint), classes=CLASSES, input_shape=(1, 12, 12), mean=header["mean"], std=header["std"]
    )
    expected = model.logits(pixels).softmax(1)[0].tolist()
    assert [one["probability"] for one in row["top"]] == pytest.approx(sorted(expected, reverse=True), abs=1e-5)
    assert row["explanation"]["method"] == "grad-cam"
    with Image.open(row["explanation"]["file"]) as drawn:
        assert drawn.format == "PNG" and min(drawn.size) >= 336


def test_several_pictures_and_a_method_by_name(checkpoint: Path, picture: Path, tmp_path: Path) -> None:
    other = tmp_path / "two.png"
    Image.linear_gradient("L").convert("RGB").resize((40, 20)).save(other)
    shown = call(picture, other, "--model", checkpoint, "--out", tmp_path / "maps", "--explain", "occlusion")
    assert shown.exit_code == 0, shown.output
    assert shown.stdout.index("one.png") < shown.stdout.index("two.png")
    assert sorted(path.name for path in (tmp_path / "maps").iterdir()) == [
        "one.png.occlusion.png",
        "two.png.occlusion.png",
    ]


def test_a_crop_predicts_the_middle_alone(checkpoint: Path, picture: Path, tmp_path: Path) -> None:
    with Image.open(picture) as opened:
        framed = Image.new("L", (36, 24), 255)
        framed.paste(opened, (12, 6))
    framed.save(tmp_path / "framed.png")
    plain, cut, whole = (
        json.loads(call(*words, "--model", checkpoint, "--explain", "none", "--json").stdout)["predictions"][0]["top"]
        for words in ((picture,), (tmp_path / "framed.png", "--crop", 0.5), (tmp_path / "framed.png",))
    )
    assert cut == plain != whole


def test_a_checkpoint_carries_how_its_pictures_were_prepared(checkpoint: Path, picture: Path, tmp_path: Path) -> None:
    """A picture lying on its head, under a header that says so, is answered as the upright one."""
    carried = tmp_path / "turned.safetensors"
    with safe_open(checkpoint, framework="np") as file:
        notes = file.metadata()
    weights = {name: weight.numpy() for name, weight in _module(checkpoint).state_dict().items()}
    header = notes | preparation_header(DataConfig(rotate=180.0, flip="horizontal"))
    carried.write_bytes(with_metadata(save(weights), header))
    with Image.open(picture) as opened:
        opened.transpose(Image.Transpose.FLIP_LEFT_RIGHT).rotate(180).save(tmp_path / "head.png")
    head = (tmp_path / "head.png", "--model")
    plain, told, by_header, overruled, wrong = (
        json.loads(call(*words, "--explain", "none", "--json").stdout)["predictions"][0]["top"]
        for words in (
            (picture, "--model", checkpoint),
            (*head, checkpoint, "--rotate", 180, "--flip", "horizontal"),
            (*head, carried),
            (picture, "--model", carried, "--rotate", 0, "--flip", "none"),
            (*head, checkpoint),
        )
    )
    assert plain == told == by_header == overruled != wrong


def test_none_explains_nothing_and_writes_nothing(checkpoint: Path, picture: Path, tmp_path: Path) -> None:
    shown = call(picture, "--model", checkpoint, "--out", tmp_path / "maps", "--explain", "none", "--json")
    assert json.loads(shown.stdout)["predictions"][0]["explanation"] is None
    assert not (tmp_path / "maps").exists()


def test_a_method_without_meaning_here_says_why(checkpoint: Path, picture: Path, tmp_path: Path) -> None:
    words = (picture, "--model", checkpoint, "--out", tmp_path / "maps", "--explain", "attention-rollout", "--json")
    (row,) = json.loads(call(*words).stdout)["predictions"]
    assert row["explanation"]["file"] is None and "no attention layer" in row["explanation"]["reason"]


def test_a_map_that_is_zero_everywhere_is_no_picture(picture: Path) -> None:
    blind = nn.Sequential(nn.Flatten(), nn.Linear(144, 3))
    nn.init.zeros_(blind[1].weight)
    model = audit.wrap(blind, classes=CLASSES, input_shape=(1, 12, 12), device="cpu")
    (found,) = predict_pictures(model, [picture], explain="occlusion")
    assert found.explanation is None and "zero everywhere" in str(found.reason)


def test_a_map_that_is_alike_everywhere_gives_way_to_the_next_method(picture: Path) -> None:
    """The last convolution hardly moves with the picture: Grad-CAM's map has four cells of almost one value."""
    module = nn.Sequential(nn.Conv2d(1, 4, 11), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3))
    with torch.no_grad():
        module[0].weight.fill_(1e-3)
        module[0].bias.fill_(1.0)
        module[4].weight.fill_(0.5)
    model = audit.wrap(module, classes=CLASSES, input_shape=(1, 12, 12), device="cpu")
    assert predict_pictures(model, [picture])[0].method == "integrated-gradients"
    (asked,) = predict_pictures(model, [picture], explain="grad-cam")
    assert asked.method == "grad-cam" and asked.explanation is not None


def test_a_model_that_does_not_say_its_classes_is_asked_for_them(picture: Path, tmp_path: Path) -> None:
    torch.save(_cnn().state_dict(), tmp_path / "bare.pt")
    shown = call(picture, "--model", tmp_path / "bare.pt")
    assert shown.exit_code == 2 and "--labels-map" in shown.stderr and "--image-size" in shown.stderr
    (tmp_path / "classes.txt").write_text("\n".join(CLASSES))
    told = ("--labels-map", tmp_path / "classes.txt", "--image-size", 12, "--grayscale", "--architecture", "cnn-28")
    shown = call(picture, "--model", tmp_path / "bare.pt", *told, "--explain", "none", "--json")
    assert shown.exit_code == 0, shown.output
    assert {one["class"] for one in json.loads(shown.stdout)["predictions"][0]["top"]} == set(CLASSES)


def test_a_bad_picture_is_one_sentence(checkpoint: Path, picture: Path, tmp_path: Path) -> None:
    torn = tmp_path / "torn.png"
    torn.write_bytes(picture.read_bytes()[:60])
    for bad, words in ((torn, "torn.png is unreadable"), (tmp_path / "absent.png", "No such file")):
        shown = call(picture, bad, "--model", checkpoint, "--out", tmp_path / "maps")
        assert shown.exit_code == 2 and words in shown.stderr and "Traceback" not in shown.output
    assert not (tmp_path / "maps").exists()


def test_pictures_of_one_name_are_not_written_over_each_other(checkpoint: Path, picture: Path, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    twin = tmp_path / "other" / picture.name
    twin.write_bytes(picture.read_bytes())
    shown = call(picture, twin, "--model", checkpoint, "--out", tmp_path / "maps")
    assert shown.exit_code == 2 and "called alike" in shown.stderr


def test_the_overlay_is_red_where_the_class_rises_blue_where_it_falls_and_grey_elsewhere() -> None:
    image = np.full((3, 2, 2), 0.5)
    attribution = np.array([[[1.0, -1.0], [0.0, 0.0]]])
    drawn = np.asarray(Image.open(io.BytesIO(overlay_png(image, attribution)))).astype(int)
    side = drawn.shape[0] // 2
    up, down, still = drawn[0, 0], drawn[0, side], drawn[side, 0]
    assert up[0] > up[2] + 50 and down[2] > down[0] + 50
    assert still.tolist() == [128, 128, 128]


def test_an_empty_map_leaves_the_picture_grey() -> None:
    drawn = np.asarray(Image.open(io.BytesIO(overlay_png(np.ones((1, 4, 4)), np.zeros((1, 4, 4))))))
    assert bool((drawn == 255).all())


def _cnn() -> torch.nn.Module:
    from audit.models.architecture import build

    return build("cnn-28", classes=3, input_shape=(1, 12, 12), seed=0)


def _module(checkpoint: Path) -> torch.nn.Module:
    from safetensors.torch import load_file

    net = _cnn()
    net.load_state_dict(load_file(checkpoint))
    return net


def _header(checkpoint: Path) -> dict[str, list[float]]:
    with safe_open(checkpoint, framework="np") as file:
        notes = file.metadata()
    return {name: json.loads(notes[name]) for name in ("mean", "std")}
