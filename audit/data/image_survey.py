"""The first pass over image files: which are readable, their sizes, their hashes and what is odd about them."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

from audit.core.errors import DataError
from audit.data.image_decoding import ImageInfo, UnreadableImage, inspect_image, strict_pillow

_AT_ONCE = 512

Read = Callable[[str], bytes]
"""`read(name)` gives a file's bytes; raises OSError."""

_T = TypeVar("_T")
_R = TypeVar("_R")


@dataclass(frozen=True, slots=True)
class ImageFile:
    """An image file with its label. A million of these are held at once, so there is nothing more.

    Attributes:
        name: The path relative to the data set's folder, with forward slashes.
        label: The class, from 0.
        mask: The path of the image that is bright where the object is; empty without one.
    """

    name: str
    label: int
    mask: str = ""


@dataclass(frozen=True, slots=True)
class SurveyedImage:
    """An image file that was readable when it was surveyed.

    Attributes:
        file: The file.
        sha256: SHA-256 of its bytes.
        info: Its size and colour.
        mask: SHA-256 of its mask's bytes; empty without a readable mask.
    """

    file: ImageFile
    sha256: bytes
    info: ImageInfo
    mask: bytes = b""


def printable(name: str) -> str:
    """A file name as text that every file and report can hold.

    Args:
        name: The name as the system gives it; bytes that are no UTF-8 are written as escapes.
    """
    return name if name.isascii() else os.fsencode(name).decode("utf-8", "backslashreplace")


def survey(read: Read, files: Sequence[ImageFile]) -> tuple[list[SurveyedImage], list[str]]:
    """Read every file once.

    Args:
        read: Gives a file's bytes.
        files: The files.

    Returns:
        The readable images, and a line for each unreadable file; both in the order of `files`.
    """
    shared: dict[ImageInfo, ImageInfo] = {}

    def inspect(file: ImageFile) -> SurveyedImage | str:
        try:
            body = read(file.name)
            info = inspect_image(body)
            mask = _mask_hash(read, file.mask) if file.mask else b""
            return SurveyedImage(file, hashlib.sha256(body).digest(), shared.setdefault(info, info), mask)
        except UnreadableImage as why:
            return f"{printable(file.name)} ({why})"
        except OSError as fault:
            return f"{printable(file.name)} ({fault.strerror})"

    with strict_pillow():
        answers = list(in_threads(inspect, files))
    images = [answer for answer in answers if isinstance(answer, SurveyedImage)]
    return images, [answer for answer in answers if isinstance(answer, str)]


def in_threads(work: Callable[[_T], _R], items: Sequence[_T]) -> Iterator[_R]:
    """Call `work` on each item in a pool of threads; decoding and hashing release the interpreter's lock.

    Args:
        work: The function.
        items: Its arguments.

    Yields:
        The results in the order of `items`.
    """
    with ThreadPoolExecutor(max_workers=min(8, os.cpu_count() or 1)) as pool:
        for start in range(0, len(items), _AT_ONCE):
            yield from pool.map(work, items[start : start + _AT_ONCE])


def check_readable(
    surveys: Mapping[str, tuple[list[SurveyedImage], list[str]]],
    files_by_split: Mapping[str, Sequence[ImageFile]],
    classes: Sequence[str],
    *,
    strict: bool,
    every: bool = False,
) -> None:
    """Refuse data of which too much is unreadable.

    Args:
        surveys: What `survey` gave for each part.
        files_by_split: The files of each part.
        classes: Class names in label order.
        strict: Refuse a single unreadable file, as --strict asks.
        every: Refuse one, as each of them was named.

    Raises:
        DataError: When `strict` or `every` and a file is unreadable, when over half are, or when a class of a part has
            no readable image.
    """
    unreadable = [line for _, lines in surveys.values() for line in lines]
    total = sum(len(files) for files in files_by_split.values())
    if unreadable and (strict or every or 2 * len(unreadable) > total):
        why = "each of them was asked for" if every else "that is over half of them"
        why = "--strict makes that an error" if strict else why
        raise DataError(
            f"{len(unreadable)} of {total} images are unreadable, and {why}; the first is {unreadable[0]}. "
            "Mend or remove them."
        )
    for split, (images, lines) in surveys.items():
        empty = {file.label for file in files_by_split[split]} - {image.file.label for image in images}
        if empty:
            raise DataError(
                f"No image of class {classes[min(empty)]!r} in the {split} part is readable; the first unreadable "
                f"one is {lines[0]}. Mend the files or remove the class."
            )


def _mask_hash(read: Read, name: str) -> bytes:
    """Empty for a mask that cannot be read, which is then said in the notes."""
    try:
        body = read(name)
        inspect_image(body)
        return hashlib.sha256(body).digest()
    except (UnreadableImage, OSError):
        return b""
