"""Single pictures as a model is given them."""

from __future__ import annotations

import glob
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from audit.config import DataConfig
from audit.core.errors import DataError
from audit.core.image_options import PixelRange
from audit.core.types import Images
from audit.data.image_decoding import IMAGE_SUFFIXES, UnreadableImage, decode, inspect_image, strict_pillow
from audit.data.image_survey import printable
from audit.data.pixel_range import common_range
from audit.data.transforms import Preprocessing, transform_images
from audit.models.loaded import InputShape

_T = TypeVar("_T")
_UNCHANGED = DataConfig()


def picture_files(paths: Sequence[Path]) -> list[Path]:
    """The picture files that paths name: a file as it is, the pictures of a folder, those that a pattern fits.

    Args:
        paths: Files, folders and patterns such as `photos/*.jpg`.

    Returns:
        The files, those of one path in the order of their names.

    Raises:
        DataError: A folder holds no picture, or nothing fits a pattern.
    """
    return [file for path in paths for file in _files_of(path)]


def _files_of(path: Path) -> list[Path]:
    if path.is_dir():
        inside = [file for file in path.iterdir() if file.is_file() and file.suffix.lower() in IMAGE_SUFFIXES]
        if not inside:
            raise DataError(f"{path} holds no picture itself; name a folder of pictures, or the pictures.")
        return sorted(inside)
    if path.exists() or not glob.has_magic(str(path)):
        return [path]
    fitting = sorted(Path(name) for name in glob.glob(str(path), recursive=True) if Path(name).is_file())
    if not fitting:
        raise DataError(f"No file fits {path}; name pictures, a folder of them, or another pattern.")
    return fitting


def read_pictures(paths: Sequence[Path], shape: InputShape, data: DataConfig = _UNCHANGED) -> Images:
    """Read pictures, upright, resized and prepared.

    Args:
        paths: Picture files, N of them.
        shape: Of an image, (C, H, W).
        data: How to decode, crop, resize, turn and mirror each picture.

    Returns:
        Float32 images (N, C, H, W) in [0, 1].

    Raises:
        DataError: A picture cannot be read; the first of them is named.
    """
    with strict_pillow():
        pixel_range = data.pixel_range or _common_range(paths)
        data = data.model_copy(update={"pixel_range": pixel_range})
        pixels = [torch.from_numpy(_pixels(path, shape, data)) for path in paths]
    turned = Preprocessing(None, data.rotate, data.flip)
    transformed = transform_images(torch.stack(pixels).to(torch.float32), turned)
    return transformed.round().clamp(0, 255) / 255


def _common_range(paths: Sequence[Path]) -> PixelRange | None:
    """What is black and white in those of the pictures that have more than 8 bits; None where none has."""
    extents = [info.extent for info in (_guarded(path, inspect_image) for path in paths) if info.extent is not None]
    return common_range(extents, f"{len(extents)} of the pictures") if extents else None


def _pixels(path: Path, shape: InputShape, data: DataConfig) -> NDArray[np.uint8]:
    return _guarded(
        path,
        lambda body: decode(
            body,
            shape[1:],
            grayscale=shape[0] == 1,
            crop=data.crop,
            interpolation=data.interpolation or "bilinear",
            transparency=data.transparency,
            pixel_range=data.pixel_range,
        ),
    )


def _guarded(path: Path, read: Callable[[bytes], _T]) -> _T:
    """What `read` makes of a file's bytes. Raises DataError where the file is unreadable."""
    try:
        return read(path.read_bytes())
    except UnreadableImage as fault:
        raise DataError(f"{printable(path.name)} is unreadable: {fault}. Give another picture.") from fault
    except OSError as fault:
        raise DataError(f"Cannot read {str(path)!r}: {fault.strerror}. Give a picture file.") from fault
