"""Models as people bring them, audited end to end: Keras, ONNX, timm, torchvision and Hugging Face."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from audit.config import load_config, merge
from audit.models.architecture import build
from audit.runs.pipeline import run_audit
from tests.runs.conftest import TINY

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning", "ignore::UserWarning")
SIDE = 32
SHAPE = (3, SIDE, SIDE)


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve images of three classes, told apart by their brightest colour."""
    rng = np.random.default_rng(0)
    labels = np.arange(12) % 3
    images = rng.integers(0, 90, (12, SIDE, SIDE, 3)).astype(np.uint8)
    for image, label in zip(images, labels, strict=True):
        image[..., label] += 120
    path = tmp_path_factory.mktemp("photos") / "photos.npz"
    np.savez(path, images=images, labels=labels, classes=np.array(["red", "green", "blue"]))
    return path


@pytest.fixture(autouse=True)
def state_of_randomness() -> Any:
    """Keras draws from every global generator there is."""
    kept = torch.get_rng_state(), np.random.get_state()
    yield
    torch.set_rng_state(kept[0])
    np.random.set_state(kept[1])


def keras(folder: Path) -> dict[str, Any]:
    """The tutorials' net: rescaling and augmentation inside, channels last, softmax at the end."""
    os.environ.setdefault("KERAS_BACKEND", "torch")
    import keras

    layers = keras.layers
    keras.utils.set_random_seed(1)
    keras.Sequential(
        [
            keras.Input((SIDE, SIDE, 3)),
            layers.Rescaling(1 / 255),
            layers.RandomFlip("horizontal"),
            layers.Conv2D(8, 3, activation="relu"),
            layers.MaxPooling2D(),
            layers.Dropout(0.5),
            layers.Flatten(),
            layers.Dense(3, activation="softmax"),
        ]
    ).save(folder / "net.keras")
    return {"weights": str(folder / "net.keras")}


def onnx(folder: Path) -> dict[str, Any]:
    net = build("cnn-32", classes=3, input_shape=SHAPE, seed=1).eval()
    axes = {"x": {0: "n"}}
    path = str(folder / "net.onnx")
    torch.onnx.export(net, (torch.zeros(1, *SHAPE),), path, dynamo=False, input_names=["x"], dynamic_axes=axes)
    return {"weights": path}


def library(name: str) -> Callable[[Path], dict[str, Any]]:
    def make(folder: Path) -> dict[str, Any]:
        torch.save(build(name, classes=3, input_shape=SHAPE, seed=1).state_dict(), folder / "net.pt")
        return {"weights": str(folder / "net.pt"), "architecture": name}

    return make


def hugging_face(folder: Path) -> dict[str, Any]:
    from transformers import ResNetConfig, ResNetForImageClassification

    names = {0: "red", 1: "green", 2: "blue"}
    config = ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic", id2label=names)
    ResNetForImageClassification(config).save_pretrained(folder / "net")
    return {"weights": f"hf:{folder / 'net'}", "mean": 0.5, "std": 0.5}


FORMATS: dict[str, tuple[Callable[[Path], dict[str, Any]], str]] = {
    "Keras": (keras, "net.keras"),
    "ONNX": (onnx, "net.onnx"),
    "timm": (library("timm:test_resnet"), "net.pt (timm:test_resnet)"),
    "torchvision": (library("torchvision:mobilenet_v3_small"), "net.pt (torchvision:mobilenet_v3_small)"),
    "Hugging Face": (hugging_face, "net"),
}


@pytest.mark.parametrize("name", FORMATS)
def test_a_model_of_every_origin_is_attacked_explained_and_reported(name: str, photos: Path, tmp_path: Path) -> None:
    make, origin = FORMATS[name]
    changes = {
        "model": make(tmp_path),
        "data": {"source": f"npz:{photos}"},
        "hardening": {"enabled": False},
        "explanations": {"methods": ["saliency", "grad-cam"]},
    }
    outcome = run_audit(load_config(overrides=merge(TINY, changes)), tmp_path / "run")
    document = outcome.document
    assert outcome.results.complete and outcome.folder.report.stat().st_size > 10_000
    assert str(document.models[0].origin) == origin
    (attacked,) = outcome.results.entries("robustness", role="standard")[:1]
    assert attacked.evidence.status == "measured" and attacked.evidence.backwards > 0
    entries = outcome.results.entries("explanation")
    explained = {entry.task.cell.method: entry.evidence for entry in reversed(entries)}  # of clean images, the first
    assert explained["saliency"].status == "measured", explained["saliency"].reason
    # Keras' convolutions are not torch's: Grad-CAM has no layer to hook, and says so.
    assert explained["grad-cam"].status == ("not_applicable" if name == "Keras" else "measured")
    assert explained["grad-cam"].status == "measured" or explained["grad-cam"].reason
    assert np.abs(explained["saliency"].arrays["attributions"]).sum() > 0
