"""Arrays of pixels that are no bytes and not in 0 to 1, labels that are no plain numbers: read as meant, or refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from audit.core.errors import DataError
from audit.data.dataset import Dataset
from audit.data.load import load_dataset

UNIT = np.random.default_rng(0).random((6, 3, 8, 8), np.float32)
UNIT.flat[:2] = 0, 1
LABELS = np.arange(6) % 3


def load(path: Path, images: np.ndarray, labels: np.ndarray = LABELS, **options: Any) -> Dataset:
    np.savez(path / "a.npz", images=images, labels=labels)
    return load_dataset(f"npz:{path / 'a.npz'}", **options)


READ: dict[str, tuple[np.ndarray, str]] = {
    "floats in 0 to 1": (UNIT, ""),
    "half precision": (UNIT.astype(np.float16), ""),
    "a rounding error above": (np.where(UNIT == 1, np.float32(1.0000001), UNIT), "clipped to [0, 1]"),
    "a rounding error below": (np.where(UNIT == 0, np.float32(-3e-8), UNIT), "clipped to [0, 1]"),
    "floats in 0 to 255": (UNIT * 255, "0 to 255"),
    "floats in -1 to 1": (UNIT * 2 - 1, "-1 to 1"),
    "bytes": (np.rint(UNIT * 255).astype(np.uint8), ""),
    "integers in 0 to 255": (np.rint(UNIT * 255).astype(np.int64), ""),
    "12 of 16 bits": (np.rint(UNIT * 4095).astype(np.uint16), "0 to 4095"),
    "16 bits": (np.rint(UNIT * 65535).astype(np.uint16), "0 to 65535"),
}


@pytest.mark.parametrize("case", READ)
def test_the_range_of_an_array_is_found_and_said(case: str, tmp_path: Path) -> None:
    images, said = READ[case]
    data = load(tmp_path, images)
    read = data.test.batch(slice(None)).images
    assert np.abs(read.numpy() - UNIT).max() <= 0.5 / 255 + 1e-3 and 0 <= read.min() and read.max() <= 1
    assert said in " ".join(map(str, data.notes)) and bool(data.notes) == bool(said)


def test_plain_floats_stay_as_they_are_to_the_bit(tmp_path: Path) -> None:
    assert np.array_equal(load(tmp_path, UNIT).test.batch(slice(None)).images.numpy(), UNIT)


def test_booleans_are_black_and_white(tmp_path: Path) -> None:
    read = load(tmp_path, UNIT > 0.5).test.batch(slice(None)).images.numpy()
    assert np.array_equal(read, (UNIT > 0.5).astype(np.float32))


def test_both_parts_share_the_range(tmp_path: Path) -> None:
    wide = np.rint(UNIT * 4095).astype(np.uint16)
    np.savez(tmp_path / "a.npz", x_train=wide, y_train=LABELS, x_test=wide // 8, y_test=LABELS)
    data = load_dataset(f"npz:{tmp_path / 'a.npz'}")
    assert data.pixel_range == (0, 4095) and data.test.batch(slice(None)).images.max() < 0.13


def test_the_key_gives_the_range(tmp_path: Path) -> None:
    read = load(tmp_path, np.rint(UNIT * 16), pixel_range=(0.0, 16.0)).test.batch(slice(None)).images.numpy()
    assert np.allclose(read, np.rint(UNIT * 16) / 16)


def test_bytes_that_are_nearly_black_are_said(tmp_path: Path) -> None:
    data = load(tmp_path, np.rint(UNIT * 3).astype(np.uint8))
    assert "nearly black: below 1.2%" in str(data.notes[0])


REFUSED: dict[str, tuple[np.ndarray, str]] = {
    "normalised": ((UNIT - 0.45) / 0.22, "Undo any normalisation.*--pixel-range="),
    "NaN": (np.where(UNIT == 1, np.nan, UNIT), "1 of 1,152 pixel values are NaN"),
    "infinite": (np.where(UNIT == 1, np.inf, UNIT), "NaN or infinite"),
    "complex": (UNIT.astype(np.complex64), "pixels of type complex64"),
    "text": (UNIT.astype(str), "pixels of type"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_has_no_range_gets_a_sentence(case: str, tmp_path: Path) -> None:
    images, words = REFUSED[case]
    with pytest.raises(DataError, match=words):
        load(tmp_path, images)


@pytest.mark.parametrize(
    "labels",
    [
        LABELS[:, None],
        LABELS.astype(float),
        np.eye(3)[LABELS],
        np.eye(3, dtype=bool)[LABELS],
        np.eye(3, dtype=int)[LABELS],
    ],
)
def test_labels_in_other_forms_are_the_same_classes(labels: np.ndarray, tmp_path: Path) -> None:
    data = load(tmp_path, UNIT, labels)
    assert data.test.labels.tolist() == LABELS.tolist() and data.classes == ("0", "1", "2")


def test_a_class_that_no_row_has_is_a_class(tmp_path: Path) -> None:
    assert len(load(tmp_path, UNIT, np.eye(5)[LABELS]).classes) == 5


@pytest.mark.parametrize("labels", [np.ones((6, 3)), LABELS + 0.5, np.eye(3)[LABELS] * 0.9])
def test_labels_of_no_one_class_get_a_sentence(labels: np.ndarray, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="labels"):
        load(tmp_path, UNIT, labels)


@pytest.mark.parametrize("interpolation", ["bicubic", "lanczos", "nearest", "box"])
def test_arrays_are_resized_by_the_filter_that_is_asked(interpolation: Any, tmp_path: Path) -> None:
    data = load(tmp_path, UNIT, image_size=12, interpolation=interpolation)
    read = data.test.batch(slice(None)).images
    assert read.shape == (6, 3, 12, 12) and 0 <= read.min() and read.max() <= 1
    plain = load(tmp_path, UNIT, image_size=12)
    assert data.test.fingerprint != plain.test.fingerprint and not np.allclose(
        read, plain.test.batch(slice(None)).images
    )
    assert any(("nearest neighbour" if interpolation == "nearest" else interpolation) in str(n) for n in data.notes)
