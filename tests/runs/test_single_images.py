"""One picture audited: its label said, or the model's own prediction; its classes from the model or a map."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from audit.api.training import train
from audit.config import load_config
from audit.core.errors import AuditError, DataError, UsageError
from audit.data.load import load_dataset
from audit.runs.pipeline import run_audit
from audit.runs.run_setup import RunSetup
from audit.runs.setup import set_up

NAMES = ("owl", "cat", "dog")


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A net that carries its classes' names, three grey pictures, a list of two of them, and a labels map."""
    folder = tmp_path_factory.mktemp("shelf")
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(12, 1, 12, 12, generator=generator)
    found = train(
        images, torch.arange(12) % 3, classes=NAMES, architecture="cnn-28", epochs=1, batch_size=4, device="cpu"
    )
    found.save(folder / "net.safetensors")
    for i in range(3):
        Image.fromarray((images[i, 0].numpy() * 255).round().astype(np.uint8)).save(folder / f"{i}.png")
    (folder / "list.txt").write_text("0.png\n\n2.png\n0.png\n")
    (folder / "map.txt").write_text("\n".join(NAMES))
    return folder


def ready(shelf: Path, image: str, *, weights: bool = True, **data: Any) -> RunSetup:
    overrides = {
        "data": {"source": f"image:{shelf}/{image}", "grayscale": True, **data},
        "model": {"weights": str(shelf / "net.safetensors")} if weights else {},
        "hardening": {"enabled": False},
        "device": "cpu",
    }
    return set_up(load_config(overrides=overrides))


@pytest.mark.parametrize("label", ["dog", "2"])
def test_a_label_is_the_models_class_of_that_name_or_number(label: str, shelf: Path) -> None:
    dataset = ready(shelf, f"1.png={label}").dataset
    assert dataset.classes == NAMES and dataset.test.labels.tolist() == [2] and dataset.shape == (1, 12, 12)


def test_a_labels_map_names_the_classes_too(shelf: Path) -> None:
    data = load_dataset(f"image:{shelf}/1.png=cat", labels_map=str(shelf / "map.txt"))
    assert data.classes == NAMES and data.test.labels.tolist() == [1]


def test_without_a_label_it_is_what_the_model_predicts_and_that_is_said(shelf: Path) -> None:
    prepared = ready(shelf, "list.txt")
    dataset, maker = prepared.dataset, prepared.model_factory()
    assert maker is not None and dataset.test.ids == ("0.png", "2.png")
    assert dataset.test.labels.tolist() == maker().predictions(dataset.test.batch(slice(None)).images).tolist()
    assert any("has no label" in str(note) for note in dataset.notes)
    labelled = ready(shelf, "list.txt=owl").dataset
    assert labelled.test.fingerprint != dataset.test.fingerprint and prepared.subject.test == dataset.test.fingerprint


def test_of_accuracy_nothing_is_said_where_labels_are_predictions(shelf: Path, tmp_path: Path) -> None:
    documents = []
    for number, image in enumerate(("list.txt", "list.txt=owl")):
        overrides = {
            "data": {"source": f"image:{shelf}/{image}"},
            "model": {"weights": str(shelf / "net.safetensors")},
            "hardening": {"enabled": False},
            "only": ["accuracy", "robustness"],
            "device": "cpu",
        }
        documents.append(run_audit(load_config(overrides=overrides), tmp_path / str(number)).document)
    guessed, told = documents
    assert guessed.accuracy == [] and {one.section for one in guessed.findings} == {"robustness"}
    assert len(told.accuracy) == 1 and "accuracy" in {one.section for one in told.findings}
    assert {view.prediction for item in guessed.gallery for view in item.views} <= set(NAMES)


def test_a_name_with_an_equals_sign_is_a_file_first(shelf: Path) -> None:
    (shelf / "a=b.png").write_bytes((shelf / "0.png").read_bytes())
    assert ready(shelf, "a=b.png").dataset.name == "a=b.png"


BAD: dict[str, tuple[str, type[AuditError], str]] = {
    "an absent picture": ("9.png", DataError, "No file"),
    "no picture by its ending": ("net.safetensors", DataError, "no picture"),
    "a class the model lacks": ("0.png=emu", DataError, "knows no class 'emu'; one of owl, cat, dog"),
    "an empty list": ("empty.txt", DataError, "names no pictures"),
    "a list that leads out": ("out.txt", DataError, "outside the folder of out.txt"),
    "a list of what is not there": ("gone.txt", DataError, "unreadable"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_picture_gets_a_sentence(case: str, shelf: Path) -> None:
    (shelf / "empty.txt").write_text("\n")
    (shelf / "out.txt").write_text("../0.png")
    (shelf / "gone.txt").write_text("0.png\n7.png")
    image, kind, said = BAD[case]
    with pytest.raises(kind, match=said):
        ready(shelf, image)


def test_a_picture_alone_trains_nothing(shelf: Path) -> None:
    with pytest.raises(DataError, match="--labels-map"):
        ready(shelf, "0.png", weights=False)
    with pytest.raises(UsageError, match="no training images"):
        ready(shelf, "0.png", weights=False, labels_map=str(shelf / "map.txt"))


def test_training_images_are_asked_for_before_the_model_is_read(shelf: Path) -> None:
    """The checkpoint is no checkpoint, and nobody finds out."""
    (shelf / "broken.pt").write_bytes(b"no checkpoint")
    overrides = {
        "data": {"source": f"image:{shelf}/0.png=cat", "labels_map": str(shelf / "map.txt")},
        "model": {"weights": str(shelf / "broken.pt"), "architecture": "cnn-28"},
        "hardening": {"enabled": True},
        "device": "cpu",
    }
    with pytest.raises(UsageError, match=r"hardening and fine-tuning need some: .* or --no-harden"):
        set_up(load_config(overrides=overrides))
