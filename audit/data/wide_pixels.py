"""Pixels of more than 8 bits as a picture file holds them. Pillow keeps the high byte of colour, without a word."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile

from audit.core.image_options import PixelRange
from audit.data.pixel_range import PixelExtent, extent_of, to_bytes

GREY_WIDE = ("I;16", "I;16B", "I;16L", "I;16N", "I", "F")
_BIG_ENDIAN = {"I;16BS": "I;16S", "I;32BS": "I;32S", "F;32BF": "F;32F"}
"""libtiff gives native byte order, and Pillow (13.0) swaps these once more."""
_SWAPPED = {";16B": ";16L", ";16L": ";16B", ";16N": ";16B" if sys.byteorder == "little" else ";16L"}
"""Where Pillow keeps the high byte of colour, the raw mode that keeps the low one."""
_BITS, _PHOTOMETRIC, _SAMPLE_FORMAT = 258, 262, 339
_PLANAR, _ORIENTATION = 284, 274
_WHITE_IS_ZERO, _SIGNED, _SEPARATE = 0, 2, 2
_FULL = (0.0, 65535.0)


@dataclass(frozen=True)
class WidePixels:
    """The pixels of a picture of more than 8 bits.

    Attributes:
        values: Numbers (H, W) or (H, W, C), C being 2 (grey and alpha), 3 or 4 (with alpha).
        extent: Their least and largest without alpha; what the header says where it says how many bits are used.
        inverted: Whether the least value is white.
    """

    values: NDArray[Any]
    extent: PixelExtent
    inverted: bool = False

    @property
    def alpha(self) -> NDArray[Any]:
        """The opacity of each pixel, (H, W, 1); (H, W, 0) where all are opaque."""
        channels = self.values.shape[2] if self.values.ndim == 3 else 0
        return self.values.reshape(*self.values.shape[:2], -1)[..., {2: 1, 4: 3}.get(channels, max(channels, 1)) :]

    def eight_bit(self, pixel_range: PixelRange) -> Image.Image:
        """The picture in 8 bits.

        Args:
            pixel_range: The values that are black and white.
        """
        alpha = self.alpha
        pixels = to_bytes(self.values, pixel_range)
        if alpha.size:
            opacity = to_bytes(alpha, pixel_range if alpha.max() <= pixel_range[1] else _FULL)
            pixels = np.concatenate([pixels[..., :-1], opacity], axis=2)
        return Image.fromarray(255 - pixels if self.inverted else pixels)


def wide_pixels(picture: ImageFile.ImageFile, reopen: Callable[[], ImageFile.ImageFile]) -> WidePixels | None:
    """Read a picture's pixels in their own depth.

    Args:
        picture: Opened by Pillow and not loaded; loaded afterwards where there is an answer.
        reopen: Opens the same file once more.

    Returns:
        The pixels; None for a picture of 8 bits or fewer.

    Raises:
        ValueError: For pixels that are no finite numbers.
        OSError: For a damaged file.
    """
    tags: Any = getattr(picture, "tag_v2", {})
    if tags.get(_PLANAR) == _SEPARATE and np.max(tags.get(_BITS, 8)) > 8:
        return _separate_planes(picture, tags)
    sample_format, photometric, bits = (tags.get(tag) for tag in (_SAMPLE_FORMAT, _PHOTOMETRIC, _BITS))
    signed_bytes = picture.mode == "L" and np.ravel(sample_format or 1)[0] == _SIGNED
    rawmode = _rawmode(picture)
    if picture.mode not in GREY_WIDE and not signed_bytes:
        return _colour(picture, reopen, rawmode)
    if picture.tile and picture.tile[0].codec_name == "libtiff" and rawmode in _BIG_ENDIAN:
        _set_rawmode(picture, _BIG_ENDIAN[rawmode])
    picture.load()
    values = np.asarray(picture)
    if signed_bytes:
        values = values.view(np.int8)
    elif rawmode == "I;32N":  # unsigned in the file, signed in Pillow
        values = values.view(np.uint32)
    extent = extent_of(values)
    depth = 16 if picture.format == "PPM" else int(np.ravel(bits or 16)[0])  # a PPM header names its white
    if not extent.floating and (picture.format == "PPM" or 8 < depth < 16):
        extent = PixelExtent(0.0, 2.0**depth - 1, False)
    return WidePixels(values, extent, inverted=photometric == _WHITE_IS_ZERO and not signed_bytes)


def _separate_planes(picture: ImageFile.ImageFile, tags: Any) -> WidePixels:
    """A TIFF that stores its colours one after another: Pillow (13.0) reads noise of 16 bits, or the high byte."""
    assert picture.fp is not None
    picture.fp.seek(0)
    body = io.BytesIO(picture.fp.read())
    try:
        values = np.asarray(import_module("tifffile").imread(body, key=0))
    except Exception as fault:  # compressions that only Pillow has
        raise ValueError(f"its colours are stored one after another, and that is not read ({fault})") from fault
    if tags.get(_ORIENTATION, 1) != 1 or values.ndim != 3 or values.shape[0] not in (3, 4):
        raise ValueError("its colours are stored one after another, turned or of another number than 3 or 4")
    values = np.ascontiguousarray(np.moveaxis(values, 0, 2))
    return WidePixels(values, extent_of(values[..., :3]))


def _colour(picture: ImageFile.ImageFile, reopen: Callable[[], ImageFile.ImageFile], rawmode: str) -> WidePixels | None:
    """Colour of 16 bits, read twice: the high bytes and the low ones."""
    if rawmode == "LA;16B":  # four bytes a pixel, as RGBA of 8 bits has
        picture._mode = "RGBA"
        _set_rawmode(picture, "RGBA")
        picture.load()
        pairs = np.asarray(picture).astype(np.uint16)
        values = pairs[..., 0::2] * 256 + pairs[..., 1::2]
        return WidePixels(values, extent_of(values[..., 0]))
    if picture.mode not in ("RGB", "RGBA") or rawmode[-4:] not in _SWAPPED:
        return None
    picture.load()
    with reopen() as second:
        _set_rawmode(second, rawmode[:-4] + _SWAPPED[rawmode[-4:]])
        second.load()
        high, low = (np.asarray(half).astype(np.uint16) for half in (picture, second))
    values = high * 256 + low
    return WidePixels(values, extent_of(values[..., :3]))


def _rawmode(picture: ImageFile.ImageFile) -> str:
    if not picture.tile:
        return ""
    args = picture.tile[0].args
    return str(args if isinstance(args, str) else args[0]) if args else ""


def _set_rawmode(picture: ImageFile.ImageFile, rawmode: str) -> None:
    picture.tile = [
        tile._replace(args=(rawmode, *tile.args[1:]) if isinstance(tile.args, tuple) else rawmode)
        for tile in picture.tile
    ]
