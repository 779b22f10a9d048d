"""Pictures of more than 8 bits: their own depth is read, and one range serves the whole data set and is said."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from audit.core.errors import DataError
from audit.data.image_decoding import UnreadableImage, decode, decode_mask, inspect_image
from audit.data.load import load_dataset
from audit.data.pixel_range import PixelExtent, common_range, to_bytes
from tests.data.picture_files import file_of, folder_of, png_of, tiff_of

RNG = np.random.default_rng(0)


def wide(*shape: int, most: int = 4095, dtype: str = "uint16") -> np.ndarray:
    pixels = RNG.integers(0, most + 1, shape).astype(dtype)
    pixels.flat[0] = most
    return pixels


def in_bytes(pixels: np.ndarray, low: float, high: float) -> np.ndarray:
    """The slow twin of the scaling."""
    return np.rint((pixels.astype(np.float64) - low) / (high - low) * 255)


@pytest.mark.parametrize("interlaced", [False, True])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_twelve_bits_of_a_png_are_read_in_every_colour(channels: int, interlaced: bool) -> None:
    pixels = wide(13, 11, channels)
    body = png_of(pixels, interlaced=interlaced)
    grey = channels < 3
    assert inspect_image(body).grey == grey and inspect_image(body).extent is not None
    shown = decode(body, (13, 11), grayscale=grey).transpose(1, 2, 0)
    assert np.abs(shown - in_bytes(pixels[..., : 1 if grey else 3], 0, 4095)).max() <= 1


TIFFS: dict[str, tuple[np.ndarray, tuple[float, float]]] = {
    "uint16": (wide(6, 8), (0, 4095)),
    "uint16 colour": (wide(6, 8, 3), (0, 4095)),
    "int16": (RNG.integers(-1000, 3000, (6, 8)).astype(np.int16), (-1000, 3000)),
    "int32": (wide(6, 8, most=1_000_000, dtype="int32"), (0, 1_000_000)),
    "float32": (RNG.random((6, 8)).astype(np.float32), (0, 1)),
    "float32 in 0 to 255": ((RNG.random((6, 8)) * 255).astype(np.float32), (0, 255)),
    "int8": (RNG.integers(-100, 100, (6, 8)).astype(np.int8), (-100, 99)),
}


@pytest.mark.parametrize("deflated", [False, True])
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("kind", TIFFS)
def test_a_tiff_of_either_byte_order_gives_its_numbers(kind: str, order: str, deflated: bool) -> None:
    pixels, pixel_range = TIFFS[kind]
    body = tiff_of(pixels, order=order, deflated=deflated)
    shown = decode(body, (6, 8), grayscale=pixels.ndim == 2, pixel_range=pixel_range)
    expected = in_bytes(pixels, *pixel_range).reshape(6, 8, -1).transpose(2, 0, 1)
    assert np.abs(shown - expected).max() <= 1
    extent = inspect_image(body).extent
    assert extent is not None and (extent.low, extent.high) == pytest.approx((pixels.min(), pixels.max()))


@pytest.mark.parametrize("compression", [None, "deflate"])
@pytest.mark.parametrize("order", ["<", ">"])
def test_a_tiff_that_stores_its_colours_one_after_another_is_read(order: str, compression: str | None) -> None:
    tifffile = pytest.importorskip("tifffile")
    pixels, stream = wide(6, 8, 3), io.BytesIO()
    planes = np.ascontiguousarray(pixels.transpose(2, 0, 1))
    options = {"photometric": "rgb", "planarconfig": "separate", "compression": compression, "byteorder": order}
    tifffile.imwrite(stream, planes, **options)
    shown = decode(stream.getvalue(), (6, 8), grayscale=False).transpose(1, 2, 0)
    assert np.abs(shown - in_bytes(pixels, 0, 4095)).max() <= 1
    assert inspect_image(stream.getvalue()).size == (6, 8)


def test_unsigned_32_bits_are_not_read_as_negative() -> None:
    extent = inspect_image(tiff_of(wide(6, 8, most=4_000_000_000, dtype="uint32"))).extent
    assert extent is not None and extent.low >= 0 and extent.high == 4_000_000_000


def test_a_picture_whose_zero_is_white_is_turned() -> None:
    pixels = wide(6, 8)
    shown = decode(tiff_of(pixels, photometric=0), (6, 8), grayscale=True)[0]
    assert np.abs(255 - shown - in_bytes(pixels, 0, 4095)).max() <= 1


def test_a_format_that_names_its_white_is_believed() -> None:
    dark = b"P5 2 2 4095\n" + np.array([0, 100, 200, 300], ">u2").tobytes()
    assert decode(dark, (2, 2), grayscale=True).max() == round(300 / 4095 * 255)


def test_pixels_that_are_no_numbers_make_a_picture_unreadable() -> None:
    body = file_of(Image.fromarray(np.full((4, 4), np.nan, np.float32)), "TIFF")
    with pytest.raises(UnreadableImage, match="16 of 16 pixel values are NaN"):
        inspect_image(body)


def test_a_tiff_that_pillow_does_not_read_is_called_one() -> None:
    with pytest.raises(UnreadableImage, match="TIFF picture, damaged or of a kind"):
        inspect_image(tiff_of(RNG.random((6, 8))))


@pytest.mark.parametrize("scale", [1, 4, 1 / 65535])
def test_a_mask_is_bright_by_its_own_brightest(scale: float) -> None:
    marked = np.zeros((6, 8), np.uint16 if scale >= 1 else np.float32)
    marked[2:4, 3:5] = scale
    assert decode_mask(tiff_of(marked), (6, 8)).sum() == 4


def shades(root: Path, *, brightest: dict[str, int], body: Callable[[np.ndarray], bytes]) -> str:
    """Two classes of three pictures each, whose values reach what is said."""
    files = {f"{name}/{i}.{'png'}": body(wide(8, 8, most=most)) for name, most in brightest.items() for i in range(3)}
    return folder_of(root, files)


def test_the_range_is_one_for_the_data_set_and_is_said(tmp_path: Path) -> None:
    data = load_dataset(shades(tmp_path / "set", brightest={"dark": 1000, "light": 4000}, body=png_of))
    images = data.test.batch(slice(None)).images
    assert data.pixel_range == (0, 4095)
    assert images[data.test.labels == 0].max() == pytest.approx(1000 / 4095, abs=1 / 255)
    assert images[data.test.labels == 1].max() == pytest.approx(4000 / 4095, abs=1 / 255)
    said = " ".join(map(str, data.notes))
    assert "the range of 0 to 4095" in said and "--pixel-range" in said and "nearly black" not in said


def test_the_key_gives_another_range_and_another_data_set(tmp_path: Path) -> None:
    source = shades(tmp_path / "set", brightest={"a": 4000, "b": 4000}, body=png_of)
    narrow, full = load_dataset(source), load_dataset(source, pixel_range=(0.0, 65535.0))
    assert full.test.batch(slice(None)).images.max() < 0.07 and narrow.test.fingerprint != full.test.fingerprint
    assert any("most of it is nearly black: below 6.1%" in str(note) for note in full.notes)


def test_one_hot_pixel_does_not_make_a_dark_set_silently(tmp_path: Path) -> None:
    source = shades(tmp_path / "set", brightest={"a": 4000, "b": 4000}, body=png_of)
    hot = wide(8, 8)
    hot[0, 0] = 65535
    (tmp_path / "set" / "a" / "hot.png").write_bytes(png_of(hot))
    data = load_dataset(source)
    assert data.pixel_range == (0, 65535) and any("nearly black" in str(note) for note in data.notes)


def test_a_range_that_nothing_needs_is_said(tmp_path: Path) -> None:
    flat = file_of(Image.new("RGB", (8, 8)), "PNG")
    source = folder_of(tmp_path / "set", {f"{name}/{i}.png": flat for name in "ab" for i in range(2)})
    data = load_dataset(source, pixel_range=(0.0, 4095.0))
    assert data.pixel_range is None and any("changes nothing" in str(note) for note in data.notes)


@pytest.mark.parametrize(
    ("low", "high", "floating", "expected"),
    [
        (3, 200, False, (0, 255)),
        (0, 1023, False, (0, 1023)),
        (0, 4095, False, (0, 4095)),
        (0, 4097, False, (0, 4095)),  # a rounding error of a resized picture
        (0, 16000, False, (0, 16383)),
        (0, 65535, False, (0, 65535)),
        (0, 100_000, False, (0, 100_000)),
        (-1024, 3071, False, (-1024, 3071)),
        (-3e-8, 1.0000001, True, (0, 1)),
        (0.2, 0.7, True, (0, 1)),
        (-0.98, 0.99, True, (-1, 1)),
        (0, 254.9, True, (0, 255)),
        (0, 3999.5, True, (0, 4095)),
        (-1000, 2000, True, (-1000, 2000)),
    ],
)
def test_the_usual_ranges(low: float, high: float, floating: bool, expected: tuple[float, float]) -> None:
    assert common_range([PixelExtent(low, high, floating)], "it") == expected


@pytest.mark.parametrize(
    ("low", "high"), [(-2.1, 2.6), (-0.42, 2.82), (0, 16), (-0.3, 0.8), (-0.5, 0.5), (-0.5, -0.5), (0, 1.2)]
)
def test_floats_that_look_normalised_are_asked_about(low: float, high: float) -> None:
    with pytest.raises(DataError, match=rf"--pixel-range={low:g},{high:g}"):
        common_range([PixelExtent(low, high, True)], "it")


def test_floats_of_one_range_beside_integers_of_another_are_refused() -> None:
    with pytest.raises(
        DataError, match=r"1 image of floating-point pixels from 0 to 0\.98 beside 2 of integers from 4"
    ):
        common_range([PixelExtent(4, 65000, False), PixelExtent(0, 0.98, True), PixelExtent(9, 900, False)], "it")


def test_floats_and_integers_of_one_scale_have_one_range() -> None:
    assert common_range([PixelExtent(4, 65000, False), PixelExtent(0, 3000, True)], "it") == (0, 65535)
    assert common_range([PixelExtent(0, 1, False), PixelExtent(0, 0.5, True)], "it") == (0, 1)


def test_the_full_range_is_scaled_as_before() -> None:
    every = np.arange(65536, dtype=np.uint16)
    assert np.array_equal(to_bytes(every, (0, 65535)), ((every.astype(np.int64) * 255 + 32767) // 65535))
