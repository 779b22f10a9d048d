"""Evaluation images cropped, turned and mirrored: exact where it can be, masks along, and told."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from audit.config import load_config
from audit.data.arrays import array_split
from audit.data.dataset import Dataset
from audit.data.load import load_dataset
from audit.data.transforms import Preprocessing, apply_preprocessing
from audit.runs.setup import set_up

RNG = np.random.default_rng(0)


def made(pixels: NDArray[np.uint8]) -> Dataset:
    labels = np.arange(len(pixels)) % 2
    test, train = (array_split(pixels, labels, name=name, classes=2, source="here") for name in ("test", "train"))
    masks = pixels[:, 0] > 127
    shape = (pixels.shape[1], pixels.shape[2], pixels.shape[3])
    return Dataset("d", ("a", "b"), shape, replace(test, masks=lambda index: masks[index]), train)


def pixels_of(dataset: Dataset, part: str = "test") -> NDArray[np.uint8]:
    split = dataset.test if part == "test" else dataset.train
    assert split is not None
    return np.asarray(split.fetch(np.arange(len(split))))


def test_the_middle_is_cut_out_of_both_parts() -> None:
    pixels = RNG.integers(0, 256, (4, 3, 9, 12), dtype=np.uint8)
    after = apply_preprocessing(made(pixels), Preprocessing(crop=2 / 3))
    assert after.shape == (3, 6, 6) and "middle 6x6" in str(after.notes[0])
    for part in ("test", "train"):
        assert np.array_equal(pixels_of(after, part), pixels[:, :, 1:7, 3:9])


@pytest.mark.parametrize(
    ("preprocessing", "same"),
    [
        (Preprocessing(flip="horizontal"), lambda p: p[..., ::-1]),
        (Preprocessing(flip="vertical"), lambda p: p[..., ::-1, :]),
        (Preprocessing(rotate=90), lambda p: np.rot90(p, 1, (-2, -1))),
        (Preprocessing(rotate=-90), lambda p: np.rot90(p, -1, (-2, -1))),
        (Preprocessing(rotate=180), lambda p: p[..., ::-1, ::-1]),
        (Preprocessing(rotate=90, flip="horizontal"), lambda p: np.rot90(p, 1, (-2, -1))[..., ::-1]),
    ],
)
def test_turns_and_mirrors_are_exact_take_the_masks_along_and_spare_what_is_learnt_from(preprocessing, same) -> None:  # type: ignore[no-untyped-def]
    pixels = RNG.integers(0, 256, (4, 1, 8, 8), dtype=np.uint8)
    before = made(pixels)
    after = apply_preprocessing(before, preprocessing)
    assert np.array_equal(pixels_of(after), same(pixels))
    masks = after.test.batch(slice(None)).masks
    assert masks is not None and np.array_equal(masks.numpy(), same(pixels[:, 0] > 127))
    assert np.array_equal(pixels_of(after, "train"), pixels)
    assert before.train is not None and after.train is not None
    assert after.train.fingerprint == before.train.fingerprint and after.test.fingerprint != before.test.fingerprint
    assert all(str(note).startswith("Evaluation images are") for note in after.notes)


@pytest.mark.parametrize("size", [(21, 21), (21, 33)])
def test_a_small_turn_moves_a_dot_where_geometry_says(size: tuple[int, int]) -> None:
    pixels = np.zeros((1, 1, *size), np.uint8)
    pixels[0, 0, 10, size[1] // 2 + 8] = 255
    turned = pixels_of(apply_preprocessing(made(pixels), Preprocessing(rotate=30))).astype(float)[0, 0]
    rows, columns = np.indices(size)
    row, column = ((turned * where).sum() / turned.sum() for where in (rows, columns))
    assert row == pytest.approx(10 - 8 * 0.5, abs=0.3)
    assert column == pytest.approx(size[1] // 2 + 8 * 3**0.5 / 2, abs=0.3)


def test_floats_stay_floats_and_nothing_asked_is_nothing_changed() -> None:
    pixels = RNG.random((4, 3, 8, 8), dtype=np.float32)
    whole = Dataset("d", ("a", "b"), (3, 8, 8), array_split(pixels, np.arange(4) % 2, name="t", classes=2, source="h"))
    assert apply_preprocessing(whole, Preprocessing()) is whole
    assert pixels_of(apply_preprocessing(whole, Preprocessing(rotate=17.0))).dtype == np.float32


def test_crop_then_size_then_turn_reach_a_run_by_the_configuration() -> None:
    data = load_dataset("digits", image_size=12, crop=0.75, rotate=180.0, flip="vertical")
    assert data.shape == (1, 12, 12) and len(data.notes) == 4
    middle = load_dataset("digits", crop=0.75)
    assert middle.shape == (1, 6, 6)
    plain = load_dataset("digits").test.batch(slice(0, 5)).images
    assert torch.equal(middle.test.batch(slice(0, 5)).images, plain[:, :, 1:7, 1:7])
    sized = load_dataset("digits", image_size=12, crop=0.75).test.batch(slice(0, 5)).images
    assert torch.equal(data.test.batch(slice(0, 5)).images, sized.flip(3))
    wanted = {"source": "digits", "image_size": 12, "crop": 0.75, "rotate": 180, "flip": "vertical"}
    prepared = set_up(load_config(overrides={"data": wanted, "device": "cpu"}))
    assert prepared.subject.test == data.test.fingerprint and prepared.subject.shape == (1, 12, 12)
