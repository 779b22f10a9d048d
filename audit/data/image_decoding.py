"""Decoding of image files, with limits that hold for hostile ones."""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

PILLOW_FORMATS = ("JPEG", "PNG", "BMP", "GIF", "TIFF", "WEBP", "PPM")
IMAGE_SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".jpe", ".png", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".ppm", ".pgm", ".pbm"}
)
MOST_PIXELS = 64_000_000
"""Above every camera of today; a header that announces more is an attack or a mistake."""
MOST_BYTES = 512 << 20

_SIXTEEN_BIT = ("I;16", "I;16B", "I;16L", "I")
_GREY = ("1", "L", "LA", "La", *_SIXTEEN_BIT)
_ALPHA = ("LA", "PA", "RGBA", "La", "RGBa")
_ORIENTATION = 0x0112


class UnreadableImage(Exception):
    """A file gives no image; the message ends a sentence that names the file."""


@dataclass(frozen=True)
class ImageInfo:
    """An image file before it is used.

    Attributes:
        size: (height, width) in pixels, upright.
        grey: Whether it has no colour.
        repairs: What is changed when it is decoded, each a name in `image_survey.REPAIRS`.
    """

    size: tuple[int, int]
    grey: bool
    repairs: tuple[str, ...]


@contextmanager
def strict_pillow() -> Iterator[None]:
    """Make decompression bombs errors and silence Pillow's warnings about odd metadata.

    Use it around a whole pool of threads: warning filters belong to the process.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        yield


def inspect_image(body: bytes) -> ImageInfo:
    """Decode an image far enough to know that all of it is there.

    Args:
        body: The file's bytes.

    Raises:
        UnreadableImage: When it is damaged, too large or of no supported format.
    """
    with _opened(body) as picture:
        repairs = tuple(_repairs(picture))
        is_rotated = picture.getexif().get(_ORIENTATION, 1) in (5, 6, 7, 8)
        height, width = (picture.width, picture.height) if is_rotated else (picture.height, picture.width)
        grey = picture.mode in _GREY
        if picture.mode == "F":
            raise UnreadableImage("it has floating-point pixels of no known range")
        # A JPEG shrunk to an eighth is still read to its last byte, several times faster.
        picture.draft(picture.mode, (picture.width // 8, picture.height // 8))
        picture.load()
    return ImageInfo((height, width), grey, repairs)


def decode(body: bytes, size: tuple[int, int], *, grayscale: bool, crop: float | None = None) -> NDArray[np.uint8]:
    """Decode an image, turn it upright, crop it and resize it by antialiased bilinear filtering.

    Alpha is dropped, as torchvision and Keras drop it. Raises UnreadableImage as `inspect_image` does.

    Args:
        body: The file's bytes.
        size: (height, width) of the result in pixels.
        grayscale: Give one channel instead of three.
        crop: Share of the largest centred rectangle that is kept (see `center_crop_box`); None for the whole image.

    Returns:
        Pixels, uint8 (C, height, width).
    """
    with _opened(body) as picture:
        upright = _eight_bit(ImageOps.exif_transpose(picture)).convert("L" if grayscale else "RGB")
    height, width = size
    box = None if crop is None else center_crop_box((upright.height, upright.width), size, crop)
    if box is not None or (upright.height, upright.width) != size:
        upright = upright.resize((width, height), Image.Resampling.BILINEAR, box=box)
    pixels = np.asarray(upright, dtype=np.uint8)
    return pixels[None] if grayscale else np.ascontiguousarray(pixels.transpose(2, 0, 1))


def center_crop_box(image: tuple[int, int], size: tuple[int, int], crop: float) -> tuple[float, float, float, float]:
    """The centred box of an image that has the proportions of `size`.

    Args:
        image: (height, width) of the image in pixels.
        size: (height, width) that the box will be resized to.
        crop: Share of the sides of the largest such box, in (0, 1]; ImageNet's usual 224 of 256 pixels is 0.875.

    Returns:
        (left, upper, right, lower) in pixels.
    """
    height, width = size
    scale = crop * min(image[0] / height, image[1] / width)
    upper, left = (image[0] - scale * height) / 2, (image[1] - scale * width) / 2
    if abs(scale - 1) * max(size) < 0.5:  # whole pixels as they are: half a pixel beside them would blur
        scale, upper, left = 1.0, float(int(upper)), float(int(left))
    return left, upper, left + scale * width, upper + scale * height


def decode_mask(body: bytes, size: tuple[int, int], *, crop: float | None = None) -> NDArray[np.bool_]:
    """Decode a mask: where an image is brighter than half its brightest pixel, resized by nearest neighbour.

    An image that is black all over marks nothing. Raises UnreadableImage as `inspect_image` does.

    Args:
        body: The file's bytes.
        size: (height, width) of the result in pixels.
        crop: As for `decode`.

    Returns:
        The mask, bool (height, width).
    """
    with _opened(body) as picture:
        upright = _eight_bit(ImageOps.exif_transpose(picture)).convert("L")
    grey = np.asarray(upright, dtype=np.int64)
    binary = Image.fromarray((2 * grey > grey.max()).astype(np.uint8))
    height, width = size
    box = None if crop is None else center_crop_box((binary.height, binary.width), size, crop)
    return np.asarray(binary.resize((width, height), Image.Resampling.NEAREST, box=box), dtype=bool)


@contextmanager
def _opened(body: bytes) -> Iterator[Image.Image]:
    if len(body) > MOST_BYTES:
        raise UnreadableImage(f"it has {len(body) >> 20} MB, and at most {MOST_BYTES >> 20} are read")
    try:
        with Image.open(io.BytesIO(body), formats=PILLOW_FORMATS) as picture:
            if picture.width * picture.height > MOST_PIXELS:
                raise UnreadableImage(_bomb(f"{picture.width} x {picture.height} pixels"))
            yield picture
    except UnreadableImage:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise UnreadableImage(_bomb("too many pixels")) from None
    except UnidentifiedImageError:
        raise UnreadableImage(f"it is no {', '.join(PILLOW_FORMATS[:-1])} or {PILLOW_FORMATS[-1]} picture") from None
    except Exception as fault:  # parsers of hostile bytes raise whatever comes; all of it means the same
        raise UnreadableImage(f"{str(fault).strip() or type(fault).__name__}"[:200]) from fault


def _bomb(what: str) -> str:
    return f"it announces {what}, and at most {MOST_PIXELS:,} are read (a decompression bomb?)"


def _repairs(picture: Image.Image) -> Iterator[str]:
    if picture.getexif().get(_ORIENTATION, 1) not in (0, 1):
        yield "exif"
    if picture.mode in _ALPHA or "transparency" in picture.info:
        yield "alpha"
    if picture.mode == "CMYK":
        yield "cmyk"
    if picture.mode in _SIXTEEN_BIT:
        yield "deep"
    if getattr(picture, "n_frames", 1) > 1:
        yield "frames"


def _eight_bit(picture: Image.Image) -> Image.Image:
    """Pillow clips wide pixels instead of scaling them."""
    if picture.mode not in _SIXTEEN_BIT:
        return picture
    wide = np.asarray(picture).astype(np.int64)
    if wide.min() < 0 or wide.max() > 65535:
        raise UnreadableImage(f"it has 32-bit pixels from {wide.min()} to {wide.max()}, outside 0..65535")
    return Image.fromarray(((wide * 255 + 32767) // 65535).astype(np.uint8))
