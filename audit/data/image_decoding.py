"""Decoding of image files, with limits that hold for hostile ones: pixels, orientation and range, one after another."""

from __future__ import annotations

import io
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile, UnidentifiedImageError

from audit.core.errors import DataError
from audit.core.image_options import Interpolation, PixelRange, Transparency
from audit.data.pixel_range import PixelExtent, common_range
from audit.data.unread_kinds import unread_kind
from audit.data.wide_pixels import GREY_WIDE, WidePixels, wide_pixels

PILLOW_FORMATS = ("JPEG", "PNG", "BMP", "GIF", "TIFF", "WEBP", "PPM", *(("AVIF",) if find_spec("PIL._avif") else ()))
IMAGE_SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".jpe", ".jfif", ".pjpeg", ".pjp", ".png", ".apng", ".bmp", ".dib", ".gif", ".tif", ".tiff"}
    | {".webp", ".ppm", ".pgm", ".pbm", ".pnm", ".avif", ".heic", ".heif"}
)
"""Endings of pictures; HEIC is among them so that such files are said to be unreadable and not taken for none."""
MOST_PIXELS = 64_000_000
"""Above every camera of today; a header that announces more is an attack or a mistake."""
MOST_BYTES = 512 << 20


_GREY = ("1", "L", "LA", "La", *GREY_WIDE)
_ALPHA = ("LA", "PA", "RGBA", "La", "RGBa")
_BACKGROUNDS = {"white": (255, 255, 255, 255), "black": (0, 0, 0, 255), "grey": (128, 128, 128, 255)}
_ORIENTATION = 0x0112
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""How a picture is turned upright by its EXIF orientation (EXIF 2.3, tag 0x0112)."""


class UnreadableImage(Exception):
    """A file gives no image; the message ends a sentence that names the file."""


@dataclass(frozen=True)
class ImageInfo:
    """An image file before it is used.

    Attributes:
        size: (height, width) in pixels, upright.
        grey: Whether it has no colour.
        repairs: What is changed when it is decoded, each a name in `image_notes.REPAIRS`.
        extent: The values that occur in an image of more than 8 bits; None for any other.
    """

    size: tuple[int, int]
    grey: bool
    repairs: tuple[str, ...]
    extent: PixelExtent | None = None


@contextmanager
def strict_pillow() -> Iterator[None]:
    """Make decompression bombs errors and silence what Pillow warns and logs of odd pictures.

    Use it around a whole pool of threads: warning filters belong to the process.
    """
    silent = logging.NullHandler()  # without any handler, logging prints what Pillow says on standard error
    logging.getLogger("PIL").addHandler(silent)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            yield
    finally:
        logging.getLogger("PIL").removeHandler(silent)


def inspect_image(body: bytes) -> ImageInfo:
    """Decode an image far enough to know that all of it is there.

    Args:
        body: The file's bytes.

    Raises:
        UnreadableImage: When it is damaged, too large or of no supported format.
    """
    with _opened(body) as picture:
        mode, announced, stated = picture.mode, picture.size, _turned_in_file(picture)
        is_jpeg, frames = picture.format in ("JPEG", "MPO"), getattr(picture, "n_frames", 1)
        if is_jpeg:
            # Shrunk to an eighth it is still read to its last byte, several times faster.
            picture.draft(picture.mode, (max(1, picture.width // 8), max(1, picture.height // 8)))
        read = _read(picture, body)
        width, height = announced if is_jpeg else picture.size
        if read.orientation in (5, 6, 7, 8):
            width, height = height, width
        repairs = {
            "exif": stated or read.orientation not in (None, 1),
            "exif_broken": read.orientation is None,
            "alpha": _shows_through(picture, read.wide),
            "cmyk": mode == "CMYK",
            "profile": _other_profile(picture),
            "frames": frames > 1,
        }
    names = tuple(name for name, applies in repairs.items() if applies)
    grey = mode in _GREY or (read.wide is not None and read.wide.values.shape[2:] == (2,))
    return ImageInfo((height, width), grey, names, read.wide.extent if read.wide else None)


def decode(
    body: bytes,
    size: tuple[int, int],
    *,
    grayscale: bool,
    crop: float | None = None,
    interpolation: Interpolation = "bilinear",
    transparency: Transparency = "drop",
    pixel_range: PixelRange | None = None,
) -> NDArray[np.uint8]:
    """Decode an image, turn it upright, crop it and resize it by an antialiased filter.

    Colour profiles are ignored and alpha is dropped, as torchvision and Keras do. Raises UnreadableImage as
    `inspect_image` does.

    Args:
        body: The file's bytes.
        size: (height, width) of the result in pixels.
        grayscale: Give one channel instead of three.
        crop: Share of the largest centred rectangle that is kept (see `center_crop_box`); None for the whole image.
        interpolation: The filter.
        transparency: What becomes of transparent pixels.
        pixel_range: The values that are black and white in an image of more than 8 bits; as `common_range` finds it
            for this image alone where there is None.

    Returns:
        Pixels, uint8 (C, height, width).
    """
    upright = _upright(body, pixel_range, transparency, mode="L" if grayscale else "RGB")
    height, width = size
    box = None if crop is None else center_crop_box((upright.height, upright.width), size, crop)
    if box is not None or (upright.height, upright.width) != size:
        upright = upright.resize((width, height), Image.Resampling[interpolation.upper()], box=box)
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
    grey = np.asarray(_upright(body, "own", "drop", mode="L"), dtype=np.int64)
    binary = Image.fromarray((2 * grey > grey.max()).astype(np.uint8))
    height, width = size
    box = None if crop is None else center_crop_box((binary.height, binary.width), size, crop)
    return np.asarray(binary.resize((width, height), Image.Resampling.NEAREST, box=box), dtype=bool)


@dataclass(frozen=True)
class _Read:
    """What is known of a loaded picture: its wide pixels, and its EXIF orientation, None where that is broken."""

    wide: WidePixels | None
    orientation: int | None


def _read(picture: ImageFile.ImageFile, body: bytes) -> _Read:
    """Load a picture, for the survey and for use alike."""
    wide = wide_pixels(picture, partial(Image.open, io.BytesIO(body), formats=PILLOW_FORMATS))
    picture.load()
    try:
        orientation = picture.getexif().get(_ORIENTATION, 1)  # once loaded: Pillow has turned a TIFF already
        return _Read(wide, orientation if orientation in _UPRIGHT else 1)
    except Exception:  # metadata that nobody can parse spoils no pixels
        return _Read(wide, None)


def _upright(
    body: bytes, pixel_range: PixelRange | Literal["own"] | None, transparency: Transparency, *, mode: str
) -> Image.Image:
    """The picture in 8 bits, upright, without alpha; "own" stretches what occurs from black to white."""
    with _opened(body) as picture:
        read = _read(picture, body)
        flat = picture if read.wide is None else read.wide.eight_bit(_range(read.wide, pixel_range))
        if transparency != "drop" and _has_alpha(flat):
            above = flat.convert("RGBA")
            flat = Image.alpha_composite(Image.new("RGBA", above.size, _BACKGROUNDS[transparency]), above)
        converted = flat.convert(mode)
    turn = _UPRIGHT.get(read.orientation or 1)
    return converted if turn is None else converted.transpose(turn)


def _range(wide: WidePixels, pixel_range: PixelRange | Literal["own"] | None) -> PixelRange:
    if pixel_range == "own":
        return min(0.0, wide.extent.low), max(wide.extent.high, 1e-9)
    if pixel_range is not None:
        return pixel_range
    try:
        return common_range([wide.extent], "it")
    except DataError as fault:
        raise UnreadableImage(str(fault).rstrip(".")) from fault


@contextmanager
def _opened(body: bytes) -> Iterator[ImageFile.ImageFile]:
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
        raise UnreadableImage(unread_kind(body, PILLOW_FORMATS)) from None
    except Exception as fault:  # parsers of hostile bytes raise whatever comes; all of it means the same
        raise UnreadableImage(f"{str(fault).strip() or type(fault).__name__}"[:200]) from fault


def _bomb(what: str) -> str:
    return f"it announces {what}, and at most {MOST_PIXELS:,} are read (a decompression bomb?)"


def _turned_in_file(picture: Image.Image) -> bool:
    """Whether a TIFF says that it is stored turned: Pillow turns it while it loads and forgets that."""
    tags: Any = getattr(picture, "tag_v2", {})
    return tags.get(_ORIENTATION) in _UPRIGHT


def _has_alpha(picture: Image.Image) -> bool:
    return picture.mode in _ALPHA or "transparency" in picture.info


def _shows_through(picture: Image.Image, wide: WidePixels | None) -> bool:
    """Whether a pixel is not opaque."""
    if wide is not None:
        return bool(wide.alpha.size and wide.alpha.min() < max(wide.alpha.max(), 1))
    if not _has_alpha(picture):
        return False
    return bool(np.asarray(picture.convert("RGBA").getchannel("A")).min() < 255)


def _other_profile(picture: Image.Image) -> bool:
    profile = picture.info.get("icc_profile")
    names = ("sRGB", "IEC61966")
    return isinstance(profile, bytes) and not any(
        name.encode(code) in profile for name in names for code in ("ascii", "utf-16-be")
    )
