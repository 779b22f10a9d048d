"""Hugging Face folders: transformers' own answers on transformers' own preparation, and nothing fetched or run."""

from __future__ import annotations

import json
import shutil
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from torch import nn
from typer.testing import CliRunner

from audit.cli.app import app
from audit.config import ModelConfig, load_config
from audit.core.errors import AuditError, DataError, ModelError, SetupError, UntrustedError
from audit.models.formats import hf_folder
from audit.models.formats.hf_config import read_preprocessing
from audit.models.load import load_model
from audit.runs.run_setup import RunSetup
from audit.runs.setup import set_up

SIDE = 16
NAMES = ("owl", "cat", "dog")
MODELS: dict[str, dict[str, Any]] = {
    "ResNet": {"embedding_size": 8, "hidden_sizes": [8, 12], "depths": [1, 1], "layer_type": "basic"},
    "ViT": {
        "hidden_size": 8,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 8,
        "image_size": SIDE,
        "patch_size": 4,
    },
}


def saved(folder: Path, kind: str = "ResNet", **options: Any) -> Any:
    """A small classifier of `NAMES` with random weights, saved as transformers saves it."""
    import transformers

    config = getattr(transformers, f"{kind}Config")(**MODELS[kind], id2label=dict(enumerate(NAMES)))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(4)
        model = getattr(transformers, f"{kind}ForImageClassification")(config).eval()
    model.save_pretrained(folder, **options)
    return model


def prepared_by(folder: Path, **options: Any) -> Any:
    import transformers

    processor = transformers.ViTImageProcessor(size={"height": SIDE, "width": SIDE}, **options)
    processor.save_pretrained(folder)
    return processor


@pytest.fixture(scope="module")
def saved_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("hf") / "net"
    saved(folder)
    prepared_by(folder)
    return folder


@pytest.fixture
def folder(saved_once: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(saved_once, tmp_path / "net"))


@pytest.fixture
def pets(tmp_path: Path) -> Path:
    """Pictures at the model's size, whose classes sort in another order than the model has them."""
    rng = np.random.default_rng(0)
    for name in sorted(NAMES):
        (tmp_path / "pets" / name).mkdir(parents=True)
        for i in range(4):
            pixels = rng.integers(0, 256, (SIDE, SIDE, 3)).astype(np.uint8)
            Image.fromarray(pixels).save(tmp_path / "pets" / name / f"{i}.png")
    return tmp_path / "pets"


def ready(folder: Path, data: Path, **model: Any) -> RunSetup:
    overrides = {
        "model": {"weights": f"hf:{folder}", **model},
        "data": {"source": f"folder:{data}"},
        "hardening": {"enabled": False},
        "device": "cpu",
    }
    return set_up(load_config(overrides=overrides))


OPTIONS = {
    "mean and std": {},
    "no normalisation": {"do_normalize": False},
    "pixels in 0 to 255": {"do_rescale": False, "image_mean": [120.0] * 3, "image_std": [60.0] * 3},
    "pixels in -1 to 1": {"rescale_factor": 1 / 127.5, "image_mean": [1.0] * 3, "image_std": [1.0] * 3},
}


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("kind", MODELS)
def test_the_audited_model_answers_as_transformers_does(kind: str, options: str, pets: Path, tmp_path: Path) -> None:
    original = saved(tmp_path / "net", kind)
    processor = prepared_by(tmp_path / "net", **OPTIONS[options])
    prepared = ready(tmp_path / "net", pets)
    maker, test = prepared.model_factory(), prepared.dataset.test
    assert maker is not None
    pictures = [Image.open(pets / name) for name in test.ids]
    with torch.no_grad():
        expected = original(**processor(pictures, return_tensors="pt")).logits
    assert torch.allclose(maker().logits(test.batch(slice(None)).images), expected, atol=1e-4)


def test_labels_take_the_models_order_and_it_is_said(folder: Path, pets: Path) -> None:
    dataset = ready(folder, pets).dataset
    assert dataset.classes == NAMES and dataset.shape == (3, SIDE, SIDE)
    assert [NAMES[label] for label in dataset.test.labels] == [name.split("/")[0] for name in dataset.test.ids]
    assert any("Labels follow net: 3 of 3 classes moved" in str(note) for note in dataset.notes)


def test_other_class_names_are_taken_in_order_and_said(folder: Path, pets: Path) -> None:
    for name, other in (("cat", "ant"), ("dog", "bee"), ("owl", "emu")):
        (pets / name).rename(pets / other)
    dataset = ready(folder, pets).dataset
    assert dataset.classes == ("ant", "bee", "emu")
    assert any("taken to be in the same order" in str(note) for note in dataset.notes)


def test_a_class_that_the_model_does_not_name_is_refused_beside_classes_that_it_does(folder: Path, pets: Path) -> None:
    """In order they would be other outputs than those of their names."""
    (pets / "owl").rename(pets / "emu")
    with pytest.raises(DataError, match="no place for the class 'emu'"):
        ready(folder, pets)


def test_pictures_of_another_size_are_resized_to_the_models(folder: Path, pets: Path) -> None:
    for path in pets.rglob("*.png"):
        Image.open(path).resize((40, 30)).save(path)
    assert ready(folder, pets).dataset.shape == (3, SIDE, SIDE)


def test_what_the_configuration_says_goes_before_the_folder(folder: Path, pets: Path) -> None:
    assert ready(folder, pets).config.model.mean == (0.5, 0.5, 0.5)
    assert ready(folder, pets, mean=0.1, std=0.2).config.model.mean == 0.1


def test_gradients_and_copies_are_the_models_own(folder: Path, pets: Path) -> None:
    maker = ready(folder, pets).model_factory()
    assert maker is not None
    first, second = maker(), maker()
    images = torch.rand(2, 3, SIDE, SIDE)
    answer = first.loss_gradient(
        images, torch.tensor([0, 1]), lambda logits, labels: logits.gather(1, labels[:, None])[:, 0]
    )
    assert answer.gradient.abs().sum() > 0
    assert first.fingerprint() == second.fingerprint()


def load(folder: Path) -> Any:
    return load_model(
        ModelConfig(weights=f"hf:{folder}"), classes=NAMES, input_shape=(3, SIDE, SIDE), device="cpu", seed=0
    )


def test_shards_are_one_model(folder: Path, tmp_path: Path) -> None:
    saved(tmp_path / "shards", max_shard_size="4KB")
    assert len(list((tmp_path / "shards").glob("*.safetensors"))) > 1
    images = torch.rand(2, 3, SIDE, SIDE)
    assert torch.equal(load(tmp_path / "shards").module(images), load(folder).module(images))


@pytest.mark.parametrize("name", ["config.json", "preprocessor_config.json", "model.safetensors"])
def test_every_file_that_is_read_belongs_to_the_identity(name: str, folder: Path) -> None:
    before = load(folder).identity
    body = (folder / name).read_bytes()
    (folder / name).write_bytes(body + b"\n" if name.endswith("json") else body[:-1] + bytes([body[-1] ^ 1]))
    assert load(folder).identity != before


def test_nothing_is_fetched(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: Any, **__: Any) -> None:
        raise AssertionError("a socket was asked for")

    monkeypatch.setattr(socket, "socket", refused)
    assert load(folder).whole


def with_json(name: str, **fields: Any) -> Callable[[Path], object]:
    return lambda folder: (folder / name).write_text(json.dumps(json.loads((folder / name).read_text()) | fields))


def pickled(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    torch.save(nn.Linear(2, 2), folder / "pytorch_model.bin")


def test_weights_that_are_plain_data_in_a_pickle_are_the_same_model(folder: Path) -> None:
    images = torch.rand(2, 3, SIDE, SIDE)
    before = load(folder).module(images)
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    assert torch.equal(load(folder).module(images), before)
    identity = load(folder).identity
    (folder / "pytorch_model.bin").write_bytes((folder / "pytorch_model.bin").read_bytes() + b"\0")
    assert load(folder).identity != identity


def outside(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder.parent / "m.safetensors")
    index = {"weight_map": {"classifier.1.weight": "../m.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


BAD: dict[str, tuple[Callable[[Path], object], type[AuditError], str]] = {
    "remote code": (with_json("config.json", auto_map={"AutoConfig": "evil.Config"}), UntrustedError, "auto_map"),
    "nested code": (with_json("config.json", vision={"auto_map": {"A": "b.C"}}), UntrustedError, "never run"),
    "pickled weights": (pickled, UntrustedError, "pytorch_model.bin, a pickle"),
    "a shard outside": (outside, UntrustedError, "outside its folder"),
    "a backbone elsewhere": (with_json("config.json", backbone="hub/net"), ModelError, "names other files"),
    "quantised weights": (with_json("config.json", quantization_config={"bits": 4}), ModelError, "another number"),
    "no classifier": (with_json("config.json", model_type="bert"), ModelError, "model_type 'bert'"),
    "another width": (with_json("config.json", hidden_sizes=[8, 16]), ModelError, "do not fit config.json"),
    "another type": (with_json("config.json", depths="many"), ModelError, "net"),
    "no JSON": (lambda f: (f / "config.json").write_text("{"), ModelError, "is not JSON"),
    "a list": (lambda f: (f / "config.json").write_text("[1]"), ModelError, "no JSON object"),
    "no weights": (lambda f: (f / "model.safetensors").unlink(), ModelError, "holds no model.safetensors"),
    "no configuration": (lambda f: (f / "config.json").unlink(), ModelError, "config.json; give a local one"),
    "an odd mean": (with_json("preprocessor_config.json", image_mean="grey"), ModelError, "no normalisation"),
    "a zero factor": (with_json("preprocessor_config.json", rescale_factor=0), ModelError, "no normalisation"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_folder_gets_a_sentence_and_its_exit_code(case: str, folder: Path, pets: Path, tmp_path: Path) -> None:
    change, kind, message = BAD[case]
    change(folder)
    command = ["run", "--model", f"hf:{folder}", "--data", f"folder:{pets}", "--no-harden", "--no-color"]
    ended = CliRunner().invoke(app, [*command, "--out", str(tmp_path / "out")])
    (line,) = [line for line in ended.stderr.splitlines() if line.startswith("error:")]
    assert ended.exit_code == kind.exit_code and message in line and line.endswith("."), ended.stderr
    assert not (tmp_path / "out").exists()


def test_a_bare_folder_is_told_how_to_be_written(folder: Path) -> None:
    with pytest.raises(ModelError, match="Write hf:"):
        load_model(ModelConfig(weights=str(folder)), classes=NAMES, input_shape=(3, 9, 9), device="cpu", seed=0)


@pytest.mark.parametrize(
    ("settings", "size"),
    [
        ({"size": 24}, 24),
        ({"size": {"height": 24, "width": 24}}, 24),
        ({"size": {"height": 24, "width": 32}}, None),
        ({"size": {"shortest_edge": 256}, "do_center_crop": True, "crop_size": {"height": 224, "width": 224}}, 224),
        ({"size": {"shortest_edge": 256}, "crop_size": 224}, 256),
        ({"size": {"shortest_edge": 256}, "do_resize": False}, None),
    ],
)
def test_the_size_is_what_reaches_the_net(settings: dict[str, Any], size: int | None, folder: Path) -> None:
    (folder / "preprocessor_config.json").write_text(json.dumps(settings))
    assert read_preprocessing(f"hf:{folder}").size == size


@pytest.mark.parametrize(
    ("settings", "share"),
    [
        ({"size": {"shortest_edge": 256}, "do_center_crop": True, "crop_size": 224}, 0.875),
        ({"size": {"shortest_edge": 224}, "crop_pct": 0.9}, 0.9),
        ({"size": {"shortest_edge": 384}, "crop_pct": 0.9}, None),
        ({"size": {"shortest_edge": 256}, "do_center_crop": False, "crop_size": 224}, None),
        ({"do_center_crop": True}, None),
    ],
)
def test_a_centre_crop_is_the_share_that_it_leaves(settings: dict[str, Any], share: float | None, folder: Path) -> None:
    (folder / "preprocessor_config.json").write_text(json.dumps(settings))
    stated = read_preprocessing(f"hf:{folder}")
    assert stated.crop == share
    assert any("--crop cuts it out" in str(note) for note in stated.notes) == ("size" not in settings)


def test_reversed_channels_are_turned_for_the_net(folder: Path) -> None:
    images = torch.rand(2, 3, SIDE, SIDE)
    expected = load(folder).module(images.flip(1))
    with_json("preprocessor_config.json", do_flip_channel_order=True)(folder)
    loaded = load(folder)
    assert torch.equal(loaded.module(images), expected) and any("BGR" in str(note) for note in loaded.notes)


def test_a_net_of_timm_that_transformers_saved_answers_as_there_and_names_timm_where_it_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("timm")
    import transformers

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(4)
        config = transformers.TimmWrapperConfig(architecture="test_efficientnet", num_labels=len(NAMES))
        plain = transformers.TimmWrapperForImageClassification(config).eval()
    plain.save_pretrained(tmp_path)
    given = ModelConfig(weights=f"hf:{tmp_path}")
    options: dict[str, Any] = {"classes": NAMES, "input_shape": (3, 32, 32), "device": "cpu", "seed": 0}
    images = torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(load_model(given, **options).module(images), plain(images).logits)
    real = hf_folder.import_module
    monkeypatch.setattr(hf_folder, "import_module", lambda name: _missing(name) if name == "timm" else real(name))
    with pytest.raises(SetupError, match=r"needs timm; install it with pip install 'audit\[timm\]'"):
        load_model(given, **options)


def _missing(name: str) -> Any:
    raise ImportError(name)
