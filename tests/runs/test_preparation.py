"""Images are prepared as the checkpoint says: filter, crop and size; what differs from the model's own is said."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save

from audit.cli.options import overrides
from audit.config import DataConfig, ModelConfig, RunConfig, load_config, merge
from audit.config.flags import AUDIT_FLAGS, flags_of
from audit.core.errors import ModelError
from audit.data.load import load_dataset
from audit.models.formats.hf_config import read_preprocessing
from audit.models.formats.safetensors_file import with_metadata
from audit.models.own_preparation import own_preparation
from audit.runs.checkpoint_metadata import (
    apply_architecture,
    apply_image_preparation,
    apply_input_format,
    preparation_header,
)
from audit.runs.preparation import preparation_notes
from audit.runs.run_setup import RunSetup
from audit.runs.setup import set_up
from tests.models.test_hf_folder import saved

STATED = {"size": {"shortest_edge": 36}, "crop_size": {"height": 32, "width": 32}, "resample": 3}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import transformers

    net = tmp_path_factory.mktemp("hf") / "net"
    saved(net)
    transformers.CLIPImageProcessor(**STATED).save_pretrained(net)
    return net


@pytest.fixture
def photographs(tmp_path: Path) -> Path:
    rows, columns = np.mgrid[0:90, 0:120]
    for shift, name in enumerate(("cat", "dog", "owl")):
        (tmp_path / "photos" / name).mkdir(parents=True)
        waves = np.sin(columns[..., None] / np.array([4, 6, 9]) + shift) * 90 + np.cos(rows[..., None] / 5) * 30
        Image.fromarray((127 + waves).astype(np.uint8)).save(tmp_path / "photos" / name / "0.png")
    return tmp_path / "photos"


def ready(folder: Path, photographs: Path, **data: Any) -> RunSetup:
    overrides: dict[str, Any] = {
        "model": {"weights": f"hf:{folder}"},
        "data": {"source": f"folder:{photographs}", **data},
        "hardening": {"enabled": False},
        "device": "cpu",
    }
    return set_up(load_config(overrides=overrides))


def test_the_folders_own_filter_and_crop_give_its_own_pixels(folder: Path, photographs: Path) -> None:
    import transformers

    setup = ready(folder, photographs)
    assert setup.config.data.interpolation == "bicubic" and setup.config.data.crop == pytest.approx(32 / 36)
    processor = transformers.CLIPImageProcessor(**STATED, do_normalize=False)
    pictures = [Image.open(photographs / name) for name in setup.dataset.test.ids]
    expected = processor(pictures, return_tensors="pt")["pixel_values"]
    difference = (setup.dataset.test.batch(slice(None)).images - expected).abs()
    assert difference.max() < 1.01 / 255 and difference.mean() < 1e-4
    assert any("(bicubic, antialiased)" in str(note) for note in setup.dataset.notes)
    assert not any("in this run they are not" in str(note) for note in setup.loaded.notes)  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("data", "flag"),
    [
        ({"interpolation": "bilinear"}, "--interpolation bicubic"),
        ({"crop": 1.0}, "--crop 0.889"),
        ({"image_size": 64}, "--image-size 32"),
    ],
)
def test_what_is_asked_goes_before_and_is_said(data: Any, flag: str, folder: Path, photographs: Path) -> None:
    setup = ready(folder, photographs, **data)
    assert {key: getattr(setup.config.data, key) for key in data} == data
    said = [str(note) for note in setup.loaded.notes]  # type: ignore[union-attr]
    assert f"net says that its images were prepared with {flag}, and in this run they are not." in said


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"resample": 3}, "bicubic"),
        ({"resample": 2}, "bilinear"),
        ({"resample": 0}, "nearest"),
        ({"resample": "lanczos"}, "lanczos"),
        ({"resample": 9}, None),
        ({"resample": 3, "do_resize": False}, None),
        ({}, None),
    ],
)
def test_the_filter_is_read_by_number_or_name(settings: Any, expected: str | None, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(settings))
    assert read_preprocessing(f"hf:{tmp_path}").interpolation == expected


@pytest.mark.parametrize("name", ["timm:resnet18", "torchvision:efficientnet_b0"])
def test_published_weights_say_how_their_images_were_prepared(name: str) -> None:
    pytest.importorskip("timm")
    own = own_preparation(ModelConfig(architecture=name, weights="net.pt"))
    assert own is not None and (own.size, own.interpolation, own.mean) == (224, "bicubic", (0.485, 0.456, 0.406))
    assert own.crop in (0.95, 0.875) and not own.stated_by_checkpoint


@pytest.mark.parametrize("name", ["timm:no_such_net", "torchvision:no_such_net", "cnn-28", "auto", "net.py:make"])
def test_of_other_architectures_nothing_is_known(name: str) -> None:
    assert own_preparation(ModelConfig(architecture=name, weights="net.pt")) is None


def test_flags_that_differ_from_published_weights_are_named(photographs: Path) -> None:
    model = ModelConfig(architecture="torchvision:efficientnet_b0", weights="net.pt")
    squeezed = load_dataset(f"folder:{photographs}", image_size=224)
    (said,) = preparation_notes(DataConfig(image_size=224), model, squeezed)
    assert "--interpolation bicubic --crop 0.875 --mean 0.485,0.456,0.406 --std 0.229,0.224,0.225" in str(said)
    cut = load_dataset(f"folder:{photographs}", image_size=224, crop=0.875, interpolation="bicubic")
    alike = DataConfig(image_size=224, crop=0.875, interpolation="bicubic")
    normal = model.model_copy(update={"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)})
    assert preparation_notes(alike, normal, cut) == ()
    small = load_dataset(f"folder:{photographs}", image_size=32)
    assert preparation_notes(DataConfig(image_size=32), model, small) == ()


@pytest.fixture
def timm_folder(tmp_path: Path) -> Path:
    timm = pytest.importorskip("timm")
    from safetensors.torch import save_file

    stated = {
        "input_size": [3, 32, 32],
        "interpolation": "bicubic",
        "crop_pct": 0.95,
        "mean": [0.5] * 3,
        "std": [0.25] * 3,
    }
    folder = tmp_path / "net"
    folder.mkdir()
    save_file(timm.create_model("test_resnet", num_classes=3).state_dict(), folder / "model.safetensors")
    (folder / "config.json").write_text(
        json.dumps({"architecture": "test_resnet", "num_classes": 3, "pretrained_cfg": stated})
    )
    return folder


def test_a_timm_folder_is_told_with_flags_that_prepare_its_images(timm_folder: Path, photographs: Path) -> None:
    with pytest.raises(ModelError, match="is a folder of timm") as refused:
        ready(timm_folder, photographs)
    words = str(refused.value).split("give ")[1].rstrip(".").split()
    flags = dict(zip((word.lstrip("-").replace("-", "_") for word in words[::2]), words[1::2], strict=True))
    chosen = overrides(flags_of(RunConfig, AUDIT_FLAGS), {**flags, "data": f"folder:{photographs}", "device": "cpu"})
    setup = set_up(load_config(overrides=merge(chosen, {"hardening": {"enabled": False}})))
    assert setup.dataset.shape == (3, 32, 32) and setup.config.model.mean == (0.5, 0.5, 0.5)
    assert (setup.config.data.interpolation, setup.config.data.crop) == ("bicubic", 0.95)
    assert not any("in this run they are not" in str(note) for note in setup.loaded.notes)  # type: ignore[union-attr]


def test_weights_beside_a_timm_configuration_are_compared_with_it(timm_folder: Path, photographs: Path) -> None:
    model = ModelConfig(architecture="timm:test_resnet", weights=str(timm_folder / "model.safetensors"))
    (said,) = preparation_notes(DataConfig(), model, load_dataset(f"folder:{photographs}", image_size=32))
    assert str(said).startswith(
        "net says that its images were prepared with --interpolation bicubic --crop 0.95 --mean"
    )


def test_mean_and_std_of_bytes_are_said() -> None:
    model = ModelConfig(architecture="cnn-28", weights="net.pt", mean=(123.7, 116.3, 103.5), std=58.0)
    (said,) = preparation_notes(DataConfig(), model, load_dataset("digits"))
    assert "divide both by 255" in str(said)
    caffe = ModelConfig(architecture="cnn-28", weights="net.pt", mean=(0.4, 0.45, 0.48), std=1 / 255)
    assert preparation_notes(DataConfig(), caffe, load_dataset("digits")) == ()


def test_a_folder_of_one_channel_is_given_grey_images(photographs: Path, tmp_path: Path) -> None:
    import transformers

    config = transformers.ResNetConfig(
        num_channels=1,
        embedding_size=8,
        hidden_sizes=[8, 12],
        depths=[1, 1],
        layer_type="basic",
        id2label=dict(enumerate(("cat", "dog", "owl"))),
    )
    transformers.ResNetForImageClassification(config).save_pretrained(tmp_path / "grey")
    transformers.ViTImageProcessor(size={"height": 16, "width": 16}, image_mean=[0.5], image_std=[0.5]).save_pretrained(
        tmp_path / "grey"
    )
    setup = ready(tmp_path / "grey", photographs)
    assert setup.dataset.shape == (1, 16, 16) and "Colour turned into grey." in map(str, setup.dataset.notes)


def test_pictures_of_the_right_size_need_no_filter(photographs: Path) -> None:
    model = ModelConfig(architecture="torchvision:resnet18", weights="net.pt", mean=0.45, std=0.226)
    for path in photographs.rglob("*.png"):
        Image.open(path).resize((224, 224)).save(path)
    data = DataConfig(image_size=224)
    listed = [str(said) for said in preparation_notes(data, model, load_dataset(f"folder:{photographs}"))]
    assert len(listed) == 1 and "--mean" in listed[0] and "--crop" not in listed[0]


def test_a_checkpoint_written_here_carries_all_of_the_preparation(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    data = DataConfig(interpolation="bicubic", transparency="white", pixel_range=(0.0, 4095.0), crop=0.9, rotate=5.0)
    header = preparation_header(data) | {"input_shape": "[3, 32, 32]"}
    save_file({"w": torch.zeros(1)}, tmp_path / "net.safetensors", header)
    weights = str(tmp_path / "net.safetensors")
    audited = apply_input_format(DataConfig(transparency="black"), ModelConfig(weights=weights))
    assert (audited.interpolation, audited.pixel_range, audited.crop) == ("bicubic", (0, 4095), 0.9)
    assert audited.transparency == "black" and audited.rotate == 0 and audited.image_size == 32
    assert apply_image_preparation(DataConfig(), weights).rotate == 5.0


def test_the_range_that_was_found_is_in_the_configuration_of_the_run(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / "set" / name).mkdir(parents=True)
        wide = np.linspace(0, 4000, 28 * 28).reshape(28, 28).astype(np.uint16)
        Image.fromarray(wide).save(tmp_path / "set" / name / "0.png")
    for part in ("train", "test"):
        (tmp_path / "both" / part).parent.mkdir(exist_ok=True)
        (tmp_path / "both" / part).symlink_to(tmp_path / "set")
    setup = set_up(load_config(overrides={"data": {"source": f"folder:{tmp_path / 'both'}"}, "device": "cpu"}))
    assert setup.config.data.pixel_range == (0, 4095)


def test_a_checkpoint_of_numbered_outputs_takes_the_classes_of_the_data_in_order(tmp_path: Path) -> None:
    """`audit.train(classes=3)` names its outputs 0, 1, 2: those are no names that the data could contradict."""
    header = {"architecture": "cnn-28", "classes": json.dumps(["0", "1", "2"]), "mean": "[0.3]", "std": "[0.2]"}
    path = tmp_path / "net.safetensors"
    path.write_bytes(with_metadata(save({"a": torch.zeros(1)}), header))
    model = ModelConfig(weights=str(path))
    assert apply_architecture(model, ("cat", "dog", "owl")).architecture == "cnn-28"
    with pytest.raises(ModelError, match="was trained on the classes 0, 1, 2"):
        apply_architecture(model, ("cat", "dog"))
