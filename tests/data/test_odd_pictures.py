"""Pictures as they are met: odd metadata, alpha, endings and kinds are read, or said by name and class."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from audit.core.errors import DataError
from audit.data.dataset import Dataset
from audit.data.image_decoding import PILLOW_FORMATS, decode, inspect_image
from audit.data.load import load_dataset
from tests.data.picture_files import file_of, folder_of, tiff_of

RNG = np.random.default_rng(1)


def noise(height: int = 12, width: int = 16) -> Image.Image:
    return Image.fromarray(RNG.integers(0, 256, (height, width, 3), dtype=np.uint8))


def loaded(root: Path, odd: dict[str, bytes], **options: Any) -> tuple[Dataset, str]:
    """Four plain pictures a class and odd ones beside them; the data and all that is said of it."""
    plain = {f"{name}/{i}.png": file_of(noise(), "PNG") for name in ("cat", "dog") for i in range(4)}
    data = load_dataset(folder_of(root / "set", plain | odd), **options)
    return data, " ".join(map(str, data.notes))


@pytest.mark.parametrize("exif", [b"garbage", b"Exif\0\0II*\0\xff\xff\xff\xff", b"Exif\0\0"])
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
def test_exif_that_nobody_can_parse_spoils_no_pixels(kind: str, exif: bytes, tmp_path: Path) -> None:
    picture = noise()
    data, said = loaded(tmp_path, {"cat/odd.png": file_of(picture, kind, exif=exif)})
    assert len(data.test) == 9 and "skipped" not in said
    if kind == "PNG":
        assert np.array_equal(data.test.fetch(np.array([4]))[0].transpose(1, 2, 0), np.asarray(picture))
        assert ("EXIF cannot be read" in said) == (exif == b"garbage")


@pytest.mark.parametrize("deflated", [False, True])
@pytest.mark.parametrize("depth", [np.uint8, np.uint16])
def test_a_turned_tiff_is_turned_once(depth: Any, deflated: bool) -> None:
    ramp = np.tile(np.arange(8, dtype=depth) * (4095 // 8 if depth is np.uint16 else 31), (6, 1))
    body = tiff_of(ramp, orientation=6, deflated=deflated)
    info = inspect_image(body)
    assert info.size == (8, 6) and info.repairs == ("exif",)
    shown = decode(body, info.size, grayscale=True)[0].astype(int)
    assert (np.diff(shown, axis=0) > 20).all() and (np.diff(shown, axis=1) == 0).all()


def test_transparency_is_counted_by_class(tmp_path: Path) -> None:
    hidden = RNG.integers(0, 256, (12, 16, 4), dtype=np.uint8)
    hidden[..., 3] = 0
    odd = {f"cat/alpha{i}.png": file_of(Image.fromarray(hidden), "PNG") for i in range(5)}
    _, said = loaded(tmp_path, odd)
    assert "alpha was dropped" in said and ": 5; unevenly" in said and "(cat 5/9, dog 0/4)" in said


def test_opaque_alpha_is_nothing_to_speak_of(tmp_path: Path) -> None:
    _, said = loaded(tmp_path, {"cat/alpha.png": file_of(noise().convert("RGBA"), "PNG")})
    assert "alpha" not in said


@pytest.mark.parametrize(("laid", "value"), [("drop", 200), ("white", 255), ("black", 0), ("grey", 128)])
def test_transparent_pixels_are_laid_on_what_is_asked(laid: Any, value: int) -> None:
    pixels = np.full((6, 8, 4), 200, np.uint8)
    pixels[:3, :, 3] = 0
    pixels[3:, :, 3] = 255
    palette = Image.new("P", (8, 6), 0)
    palette.putpalette([200, 200, 200])
    for body in (
        file_of(Image.fromarray(pixels), "PNG"),
        file_of(Image.fromarray(pixels[..., 2:]), "PNG"),
        file_of(palette, "PNG", transparency=0),
    ):
        assert inspect_image(body).repairs == ("alpha",)
        shown = decode(body, (6, 8), grayscale=False, transparency=laid)
        assert (shown[:, :3] == value).all()
    assert (
        decode(file_of(Image.fromarray(pixels), "PNG"), (6, 8), grayscale=True, transparency=laid)[0, 3:] == 200
    ).all()


def test_another_background_is_another_data_set(tmp_path: Path) -> None:
    faint = Image.fromarray(np.full((12, 16, 4), 90, np.uint8))
    data, _ = loaded(tmp_path, {"cat/alpha.png": file_of(faint, "PNG")})
    white, said = loaded(tmp_path, {"cat/alpha.png": file_of(faint, "PNG")}, transparency="white")
    assert data.test.fingerprint != white.test.fingerprint and "was laid on white" in said


@pytest.mark.parametrize(
    ("name", "kind"),
    [("x.jfif", "JPEG"), ("x.jpe", "JPEG"), ("X.JPG", "JPEG"), ("x.pjpeg", "JPEG"), ("x.jpg", "PNG"), ("x.PNG", "GIF")],
)
def test_endings_of_every_kind_are_pictures_and_the_content_decides(name: str, kind: str, tmp_path: Path) -> None:
    data, said = loaded(tmp_path, {f"cat/{name}": file_of(noise(), kind)})
    assert len(data.test) == 9 and "skipped" not in said and "aside" not in said


def test_pictures_without_any_ending_are_read_where_no_file_has_one(tmp_path: Path) -> None:
    named = {f"{name}/{i}": file_of(noise(), "PNG") for name in ("cat", "dog") for i in range(3)}
    data = load_dataset(folder_of(tmp_path / "bare", named | {"cat/README.md": b"cats"}))
    assert data.classes == ("cat", "dog") and len(data.test) == 6
    _, said = loaded(tmp_path, {"cat/odd": file_of(noise(), "PNG")})
    assert "1 no ending" in said


@pytest.mark.skipif("AVIF" not in PILLOW_FORMATS, reason="this Pillow reads no AVIF")
def test_avif_is_read_where_pillow_reads_it(tmp_path: Path) -> None:
    data, _ = loaded(tmp_path, {"cat/x.avif": file_of(noise(), "AVIF")})
    assert len(data.test) == 9


OTHERS = {
    "empty": (b"", "it is empty"),
    "lfs": (b"version https://git-lfs.github.com/spec/v1\noid", "git lfs pull"),
    "heic": (b"\0\0\0\x18ftypheic\0\0\0\0", "a HEIC picture"),
    "dicom": (b"\0" * 128 + b"DICM", "a DICOM file"),
    "web page": (b"<!DOCTYPE html><html>404", "a web page in place of the picture"),
    "jpeg 2000": (file_of(Image.new("RGB", (8, 8)), "JPEG2000"), "a JPEG 2000 picture"),
    "truncated": (file_of(Image.new("RGB", (64, 64), "red"), "JPEG")[:-40], "runcated"),
    "damaged header": (b"\x89PNG\r\n\x1a\n" + b"\0" * 40, "its header is damaged"),
}


@pytest.mark.parametrize("case", OTHERS)
def test_what_is_no_picture_is_called_by_its_name_and_strict_refuses_it(case: str, tmp_path: Path) -> None:
    body, words = OTHERS[case]
    data, said = loaded(tmp_path, {"cat/x.jpg": body})
    assert len(data.test) == 8 and words in said
    with pytest.raises(DataError, match=words):
        loaded(tmp_path, {"cat/x.jpg": body}, strict=True)


def test_losses_of_one_class_are_said(tmp_path: Path) -> None:
    _, said = loaded(tmp_path, {f"dog/x{i}.heic": OTHERS["heic"][0] for i in range(3)})
    assert "3 images are unreadable" in said and "Skipped by class: dog 3 / 7." in said


def test_a_wide_gamut_is_said_and_srgb_is_not(tmp_path: Path) -> None:
    _, said = loaded(tmp_path, {"cat/p3.png": file_of(noise(), "PNG", icc_profile=b"\0" * 9 + b"Display P3")})
    assert "colour profile other than sRGB" in said
    _, said = loaded(tmp_path, {"cat/p3.png": file_of(noise(), "PNG", icc_profile=b"sRGB IEC61966-2.1")})
    assert "profile" not in said


def test_grey_pictures_of_one_class_are_said(tmp_path: Path) -> None:
    _, said = loaded(tmp_path / "many", {f"cat/grey{i}.png": file_of(noise().convert("L"), "PNG") for i in range(5)})
    assert "Grey images among coloured ones: 5; unevenly over the classes" in said
    _, said = loaded(tmp_path / "one", {"cat/grey0.png": file_of(noise().convert("L"), "PNG")})
    assert "Grey images" not in said


@pytest.mark.parametrize("mode", ["RGB", "CMYK", "L"])
@pytest.mark.parametrize("size", [(1, 1), (7, 5), (3, 200)])
def test_a_jpeg_smaller_than_a_block_is_read(size: tuple[int, int], mode: str) -> None:
    body = file_of(Image.new(mode, size[::-1]), "JPEG")
    assert inspect_image(body).size == size and decode(body, size, grayscale=True).shape == (1, *size)


def test_squeezing_is_said_with_how_far_it_goes(tmp_path: Path) -> None:
    _, said = loaded(tmp_path, {"cat/thin.png": file_of(noise(4, 64), "PNG")})
    assert "Squeezed into other proportions: 1, by up to 12.0:1; --crop 1" in said


@pytest.mark.parametrize("interpolation", ["bicubic", "lanczos", "nearest", "box", "hamming"])
def test_the_filter_is_pillows_and_said(interpolation: Any, tmp_path: Path) -> None:
    picture = noise(40, 40)
    expected = picture.resize((16, 12), Image.Resampling[interpolation.upper()])
    data, said = loaded(tmp_path, {"cat/odd.png": file_of(picture, "PNG")}, interpolation=interpolation)
    assert np.array_equal(data.test.fetch(np.array([4]))[0].transpose(1, 2, 0), np.asarray(expected))
    assert ("nearest neighbour" if interpolation == "nearest" else f"{interpolation}, antialiased") in said
    plain, _ = loaded(tmp_path, {})
    assert plain.test.fingerprint != data.test.fingerprint
