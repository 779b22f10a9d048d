"""Every format and colour mode gives the pixels it holds; hostile and broken files give a reason."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from audit.data import image_files as picture_files
from audit.data.dataset import LoadOptions
from audit.data.image_decoding import MOST_PIXELS, UnreadableImage, decode, inspect_image, strict_pillow
from audit.data.image_files import image_file_dataset
from audit.data.image_survey import ImageFile
from audit.data.pixel_range import PixelExtent


def file_of(picture: Image.Image, kind: str, **options: Any) -> bytes:
    stream = io.BytesIO()
    picture.save(stream, kind, **options)
    return stream.getvalue()


def shown(pixels: np.ndarray) -> np.ndarray:
    return pixels.transpose(1, 2, 0).astype(int)


@pytest.mark.parametrize(
    ("kind", "options", "within"),
    [
        ("PNG", {}, 0),
        ("BMP", {}, 0),
        ("TIFF", {}, 0),
        ("PPM", {}, 0),
        ("WEBP", {"lossless": True}, 0),
        ("JPEG", {"quality": 95}, 12),
        ("WEBP", {"quality": 95}, 16),
    ],
)
def test_each_format_gives_its_pixels(kind: str, options: Any, within: int, paint: Callable[..., np.ndarray]) -> None:
    painted = paint(1)
    body = file_of(Image.fromarray(painted), kind, **options)
    assert np.abs(shown(decode(body, (12, 16), grayscale=False)) - painted).max() <= within
    assert inspect_image(body).size == (12, 16)


def test_palette_gif_and_one_bit_pictures() -> None:
    checks = (np.indices((6, 8)).sum(0) % 2 * 255).astype(np.uint8)
    for body in (
        file_of(Image.fromarray(checks).convert("P"), "GIF"),
        file_of(Image.fromarray(checks).convert("1"), "PNG"),
        file_of(Image.fromarray(checks).convert("P"), "PNG"),
    ):
        assert np.array_equal(decode(body, (6, 8), grayscale=True)[0], checks)


def test_sixteen_bits_are_scaled_and_never_clipped() -> None:
    wide = np.linspace(0, 65535, 48).reshape(6, 8).astype(np.uint16)
    body = file_of(Image.fromarray(wide), "PNG")
    expected = np.rint(wide / 257).astype(int)
    assert np.array_equal(decode(body, (6, 8), grayscale=True)[0], expected)
    assert np.array_equal(shown(decode(body, (6, 8), grayscale=False))[..., 1], expected)
    assert inspect_image(body).extent == PixelExtent(0, 65535, False) and inspect_image(body).grey


def test_cmyk_and_alpha_become_rgb_and_are_told(paint: Callable[..., np.ndarray]) -> None:
    painted = paint(2)
    cmyk = file_of(Image.fromarray(painted).convert("CMYK"), "TIFF")
    assert np.abs(shown(decode(cmyk, (12, 16), grayscale=False)) - painted).max() <= 1
    half = np.concatenate([painted, np.full((12, 16, 1), 40, np.uint8)], axis=2)
    alpha = file_of(Image.fromarray(half), "PNG")
    assert np.array_equal(shown(decode(alpha, (12, 16), grayscale=False)), painted)
    assert inspect_image(cmyk).repairs == ("cmyk",) and inspect_image(alpha).repairs == ("alpha",)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(orientation: int, paint: Callable[..., np.ndarray]) -> None:
    painted = paint(3)
    # How a camera stores an upright picture under each orientation (EXIF 2.3, tag 0x0112).
    stored = {
        1: painted,
        2: painted[:, ::-1],
        3: painted[::-1, ::-1],
        4: painted[::-1],
        5: painted.transpose(1, 0, 2),
        6: painted.transpose(1, 0, 2)[::-1],
        7: painted.transpose(1, 0, 2)[::-1, ::-1],
        8: painted.transpose(1, 0, 2)[:, ::-1],
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    body = file_of(Image.fromarray(np.ascontiguousarray(stored)), "PNG", exif=exif)
    assert inspect_image(body).size == (12, 16)
    assert np.array_equal(shown(decode(body, (12, 16), grayscale=False)), painted)
    assert bool(inspect_image(body).repairs) == (orientation != 1)


def test_the_first_frame_of_several_is_used(paint: Callable[..., np.ndarray]) -> None:
    frames = [Image.fromarray(paint(seed)) for seed in (4, 5)]
    body = file_of(frames[0], "TIFF", save_all=True, append_images=frames[1:])
    assert np.array_equal(shown(decode(body, (12, 16), grayscale=False)), paint(4))
    assert inspect_image(body).repairs == ("frames",)


def test_resizing_keeps_the_mean_and_a_constant_stays_constant(paint: Callable[..., np.ndarray]) -> None:
    painted = paint(6, 60, 80)
    small = decode(file_of(Image.fromarray(painted), "PNG"), (12, 16), grayscale=False)
    assert small.shape == (3, 12, 16) and abs(small.mean() - painted.mean()) < 1
    flat = decode(file_of(Image.new("RGB", (50, 30), (10, 20, 30)), "PNG"), (7, 9), grayscale=False)
    assert np.array_equal(np.unique(flat.reshape(3, -1), axis=1)[:, 0], [10, 20, 30])


def png_header(width: int, height: int) -> bytes:
    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(b"\0" * 100)) + chunk(b"IEND", b"")


def tiff_header(width: int, height: int) -> bytes:
    tags = [(256, 4, width), (257, 4, height), (258, 3, 8), (259, 3, 1), (262, 3, 1), (273, 4, 8), (279, 4, 100)]
    rows = b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in tags)
    return b"II*\0" + struct.pack("<I", 8) + struct.pack("<H", len(tags)) + rows + b"\0" * 4


@pytest.mark.parametrize("body", [png_header(60_000, 60_000), tiff_header(60_000, 60_000), png_header(11_000, 11_000)])
@pytest.mark.parametrize("read", [inspect_image, lambda body: decode(body, (8, 8), grayscale=True)])
def test_a_bomb_is_refused_by_its_header(body: bytes, read: Callable[[bytes], Any]) -> None:
    with strict_pillow(), pytest.raises(UnreadableImage, match=f"{MOST_PIXELS:,}"):
        read(body)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "TIFF", "WEBP", "BMP", "PPM"])
@pytest.mark.parametrize("share", [0.0, 0.02, 0.5, 0.9])
def test_a_truncated_file_is_noticed_by_the_first_look(kind: str, share: float) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (40, 50, 3)).astype(np.uint8)
    body = file_of(Image.fromarray(noise), kind)
    with strict_pillow(), pytest.raises(UnreadableImage):
        inspect_image(body[: int(share * len(body))])


@pytest.mark.parametrize(
    "body", [b"%PDF-1.4 not a picture", b"<svg xmlns='http://www.w3.org/2000/svg'/>", b"%!PS-Adobe-3.0"]
)
def test_other_formats_are_not_opened(body: bytes) -> None:
    with pytest.raises(UnreadableImage, match="it is no JPEG"):
        inspect_image(body)


def test_pictures_asked_for_in_any_order_are_read_as_they_are_stored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(picture_files, "in_threads", map)
    files = []
    for i in range(20):
        Image.new("L", (4, 4), 10 * i).save(tmp_path / f"{i:02}.png")
        files.append(ImageFile(f"{i:02}.png", i % 2))
    names_read: list[str] = []

    def read(name: str) -> bytes:
        names_read.append(name)
        return (tmp_path / name).read_bytes()

    data = image_file_dataset(read, "d", ("a", "b"), {"test": files}, LoadOptions(grayscale=True))
    names_read.clear()
    order = np.array([17, 3, 9, 3, 0])
    assert [int(image[0, 0, 0]) for image in data.test.fetch(order)] == [10 * i for i in order]
    assert names_read == ["00.png", "03.png", "03.png", "09.png", "17.png"]
