"""What loaders say of odd data and odd models, put together as they put it, is read in Chinese."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from audit.config import TrainingConfig
from audit.core.note import Note
from audit.data.label_map import align_to_model
from audit.data.load import load_dataset
from audit.document.locale import load_locale
from audit.models.checkpoint_entries import unwrapped
from audit.models.key_matching import match_keys
from audit.models.outputs import NOTES
from audit.models.preprocessing_probe import Preparation, PreprocessingTrial, _preparation_warning
from audit.models.state_dict import matching_notes
from audit.training.transfer import OWN_NORMALISATION, pretrained_note, schedule_notes
from tests.training.toy import tiny_net


def odd_pictures(root: Path) -> Path:
    """A folder with everything about it that a loader says a word of."""
    plain = np.arange(12 * 12 * 3, dtype=np.uint16).reshape(12, 12, 3).astype(np.uint8)
    upright = Image.Exif()
    upright[0x0112] = 6
    for part in ("train", "test", "extra"):
        for name in ("cat", "dog"):
            place = root / part / name
            place.mkdir(parents=True)
            for number in range(3):
                Image.fromarray(plain).save(place / f"{number}.png")
    odd = root / "test" / "cat"
    Image.fromarray(plain[:6]).save(odd / "small.png")
    Image.fromarray(plain).save(odd / "turned.jpg", exif=upright)
    Image.fromarray(np.dstack([plain, plain[..., :1]])).save(odd / "alpha.png")
    Image.fromarray(plain).save(odd / "unread.png", exif=b"garbage")
    Image.fromarray(plain).save(odd / "wide-gamut.png", icc_profile=b"Display P3")
    Image.fromarray(plain).convert("CMYK").save(odd / "print.jpg")
    Image.fromarray(plain[..., 0].astype(np.uint16) * 200).save(odd / "deep.png")
    frames = [Image.fromarray(plain), Image.fromarray(255 - plain)]
    frames[0].save(odd / "moving.gif", save_all=True, append_images=frames[1:])
    (odd / "broken.png").write_bytes(b"no picture")
    (odd / "notes.txt").write_text("none")
    return root


@pytest.fixture(scope="module")
def notes(tmp_path_factory: pytest.TempPathFactory) -> list[Note]:
    root = odd_pictures(tmp_path_factory.mktemp("odd"))
    whole: tuple[dict[str, Any], ...] = (
        {},
        {"image_size": 10},
        {"crop": 0.5},
        {"transparency": "white"},
        {"rotate": 5.0, "flip": "horizontal"},
    )
    found = [note for options in whole for note in load_dataset(f"folder:{root}", **options).notes]
    found += [note for source in ("sample", "digits") for note in load_dataset(source, crop=0.5, image_size=10).notes]
    return [*dict.fromkeys(found), *NOTES.values(), *of_models()]


def of_models() -> Iterator[Note]:
    correct = np.arange(100) < 90
    bgr = PreprocessingTrial(Preparation("BGR in 0 to 1", reversed_channels=True), correct)
    yield _preparation_warning(bgr, PreprocessingTrial(Preparation("as given"), ~correct))
    data = load_dataset("digits")
    order = ["1", "0", *map(str, range(2, 10))]
    yield from align_to_model(replace(data, classes=tuple(map(str, range(10)))), tuple(order), "map.txt").notes
    state = {"module.weight": torch.zeros(1)}
    yield from unwrapped({"state_dict": state}, "net.pt").notes
    net = tiny_net()
    yield from (pretrained_note(net, ()), pretrained_note(net, [f"{n}.weight" for n in range(7)]), OWN_NORMALISATION)
    yield from schedule_notes(net, TrainingConfig(epochs=4, frozen_epochs=1, backbone_rate=0.3))
    yield from matching_notes(match_keys(state, {"weight": state["module.weight"]}), "net.pt")


def test_the_folder_draws_a_note_of_every_kind(notes: list[Note]) -> None:
    """Else the test below holds little."""
    for word in (
        "EXIF",
        "alpha",
        "CMYK",
        "16 bits",
        "frames",
        "skipped",
        "commonest",
        "middle",
        "left aside",
        "turned",
    ):
        assert any(word in note.text for note in notes), word


def test_every_note_is_read_in_chinese_with_its_numbers(notes: list[Note]) -> None:
    chinese = load_locale("zh")
    for note in notes:
        said = chinese.note(note)
        assert re.search(r"[\u4e00-\u9fff]", said), note.text
        kept = re.sub(r"\(no picture[^)]*\)|\(cannot [^)]*\)|0 0 to 1, 1 1 to 0", "", said)
        assert not re.search(r"[a-z]{3,} [a-z]{2,} [a-z]{3,}", kept), said
        assert set(re.findall(r"\d+", said)) <= set(re.findall(r"\d+", note.text)), said
