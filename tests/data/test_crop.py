"""The middle of a picture: the pixels themselves where they fit, and nothing of the rim."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from audit.data.image_decoding import center_crop_box, decode, decode_mask
from audit.data.load import load_dataset


def png(pixels: np.ndarray) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()


@pytest.mark.parametrize(("height", "width"), [(32, 32), (32, 41), (50, 32)])
def test_a_crop_that_fits_is_the_middle_pixel_for_pixel(height: int, width: int) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    top, left = (height - 28) // 2, (width - 28) // 2
    cut = decode(png(pixels), (28, 28), grayscale=False, crop=0.875)
    assert (cut == pixels[top : top + 28, left : left + 28].transpose(2, 0, 1)).all()


def test_a_crop_keeps_proportions_where_the_whole_is_squeezed() -> None:
    disc = (np.hypot(*(np.indices((40, 80)) - np.array([20, 40])[:, None, None] + 0.5)) < 12).astype(np.uint8) * 255
    whole, cut = (decode(png(disc), (40, 40), grayscale=True, crop=crop)[0] > 127 for crop in (None, 1.0))
    sides = [(int(bright.any(1).sum()), int(bright.any(0).sum())) for bright in (whole, cut)]
    assert sides == [(24, 12), (24, 24)]


def test_the_middle_has_the_proportions_of_the_size() -> None:
    assert center_crop_box((100, 200), (10, 10), 0.5) == (75.0, 25.0, 125.0, 75.0)
    assert center_crop_box((100, 200), (10, 40), 1.0) == (0.0, 25.0, 200.0, 75.0)


def test_a_mask_is_cut_as_its_picture_is() -> None:
    mask = np.zeros((40, 60), np.uint8)
    mask[18:22, 28:32] = 255
    decoded = decode_mask(png(mask), (20, 20), crop=0.5)
    assert decoded.sum() == 16 and decoded[8:12, 8:12].all()


def test_a_data_set_says_that_it_was_cut_and_is_another_one(tmp_path: Path, paint: Callable[..., np.ndarray]) -> None:
    for name in "ab":
        (tmp_path / "pets" / name).mkdir(parents=True)
        Image.fromarray(paint(1)).save(tmp_path / "pets" / name / "1.png")
    source = f"folder:{tmp_path / 'pets'}"
    whole, cut = load_dataset(source), load_dataset(source, crop=0.5)
    assert (whole.shape, cut.shape) == ((3, 12, 16), (3, 6, 6))
    assert cut.test.fingerprint != whole.test.fingerprint
    assert any("0.5 of its shorter side, was cut out and given as 6x6" in str(note) for note in cut.notes)
    assert (cut.test.batch(slice(0, 1)).images[0, 0] * 255).round().tolist() == paint(1)[3:9, 5:11, 0].tolist()
