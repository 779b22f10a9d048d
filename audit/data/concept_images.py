"""The images of a concept that a user names: a folder of pictures, without classes."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import torch

from audit.core.errors import DataError
from audit.core.types import Images
from audit.data.image_decoding import IMAGE_SUFFIXES, UnreadableImage, decode, strict_pillow
from audit.data.litter import is_litter

FEWEST_CONCEPT_IMAGES = 10
"""Images of a concept at least: a direction found in fewer is that of these images."""


def concept_images(folder: Path, shape: tuple[int, int, int], most: int | None = None) -> Images:
    """The images of a folder and of the folders below it, in the order of their names.

    Args:
        folder: The folder.
        shape: (C, H, W) that they are brought to.
        most: The first so many at most; None for all.

    Returns:
        Float32 (N, C, H, W) in [0, 1].

    Raises:
        DataError: There is no such folder, it holds fewer than `FEWEST_CONCEPT_IMAGES` images, or one that cannot be
            read.
    """
    channels, height, width = shape
    pixels = []
    with strict_pillow():
        for path in concept_files(folder)[:most]:
            try:
                pixels.append(decode(path.read_bytes(), (height, width), grayscale=channels == 1))
            except (UnreadableImage, OSError) as fault:
                raise DataError(
                    f"The image {path.name} of the concept in {folder} cannot be read: {fault}. Mend it or take it out."
                ) from fault
    return torch.from_numpy(np.stack(pixels)).float() / 255


def concept_identity(folder: Path) -> str:
    """SHA-256 of the names and bytes of a concept's images.

    Args:
        folder: The folder.

    Raises:
        DataError: As `concept_images`.
    """
    digest = hashlib.sha256()
    for path in concept_files(folder):
        digest.update(path.relative_to(folder).as_posix().encode() + b"\0" + hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def concept_files(folder: Path) -> list[Path]:
    """The image files of a concept.

    Args:
        folder: The folder.

    Raises:
        DataError: There is no such folder, or it holds fewer than `FEWEST_CONCEPT_IMAGES` images.
    """
    if not folder.is_dir():
        raise DataError(f"There is no folder {folder} of a concept's images; --concept takes NAME=FOLDER.")
    files = sorted(path for path in folder.rglob("*") if path.suffix.lower() in IMAGE_SUFFIXES and path.is_file())
    files = [path for path in files if not is_litter(path.relative_to(folder).as_posix())]
    if len(files) < FEWEST_CONCEPT_IMAGES:
        raise DataError(
            f"The folder {folder} holds {len(files)} images of a concept, and at least {FEWEST_CONCEPT_IMAGES} are "
            "needed to tell its direction from chance; add some."
        )
    return files
