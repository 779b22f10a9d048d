"""A concept of the user's: its images, and one sentence for a folder that cannot be one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from audit.config import RunConfig, load_config
from audit.config.flags import flags_of
from audit.core.errors import DataError, UsageError
from audit.data.concept_images import concept_identity, concept_images


def folder_of(path: Path, count: int) -> Path:
    path.mkdir()
    for number in range(count):
        grey = np.full((12, 10), 20 * number, np.uint8)
        Image.fromarray(grey).save(path / f"{number:02d}.png")
    return path


def test_images_come_in_the_order_of_their_names_and_in_the_shape_asked_for(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "stripes", 12)
    images = concept_images(folder, (3, 8, 8), 11)
    assert images.shape == (11, 3, 8, 8) and images.dtype == torch.float32
    assert torch.allclose(images.mean((1, 2, 3)) * 255, 20.0 * torch.arange(11), atol=0.6)


def test_the_identity_follows_every_byte(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "stripes", 12)
    before = concept_identity(folder)
    assert concept_identity(folder) == before
    Image.fromarray(np.zeros((12, 10), np.uint8)).save(folder / "05.png")
    assert concept_identity(folder) != before


def test_a_folder_that_cannot_be_a_concept_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no folder .*missing of a concept's images"):
        concept_identity(tmp_path / "missing")
    with pytest.raises(DataError, match="holds 3 images of a concept, and at least 10"):
        concept_identity(folder_of(tmp_path / "few", 3))
    broken = folder_of(tmp_path / "broken", 12)
    (broken / "07.png").write_bytes(b"no picture")
    with pytest.raises(DataError, match=r"07.png of the concept in .* cannot be read"):
        concept_images(broken, (1, 8, 8))


def test_a_concept_is_a_name_and_a_folder() -> None:
    config = load_config(overrides={"explanations": {"concepts": ["stripes=a/b", " dots = c=d "]}})
    assert config.explanations.concept_folders == {"stripes": "a/b", "dots": "c=d"}
    (flag,) = [item for item in flags_of(RunConfig, ["explanations"]) if item.parameter == "concept"]
    with pytest.raises(UsageError, match=r"--concept .* 'stripes, a=b': A concept is NAME=FOLDER"):
        flag.parse(["stripes", "a=b"])
    for wrong, words in ((["stripes"], "NAME=FOLDER"), (["=a"], "NAME=FOLDER"), (["a=b", "a=c"], "Two concepts")):
        with pytest.raises(UsageError, match=words):
            load_config(overrides={"explanations": {"concepts": wrong}})
