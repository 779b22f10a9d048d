"""Splits of picture files: surveyed once, read when needed, never all in memory."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from audit.core.errors import DataError
from audit.data.dataset import Dataset, FetchMasks, Split
from audit.data.image_decoding import ImageInfo, UnreadableImage, decode, decode_mask, inspect_image, strict_pillow
from audit.data.options import LoadOptions

_LARGEST_SIDE = 1024
_DECODER = 1
"""Raised when the same file is read into other pixels."""
_LISTED = 5
_AT_ONCE = 512

Read = Callable[[str], bytes]
"""`read(name)` gives a file's bytes; raises OSError."""

T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class ImageFile:
    """A file and what is said of it: `name` is relative to the data set's folder, with forward slashes, and so is
    `mask`, the picture of where its object lies, "" without one. A million of these are held at once, so there is
    nothing more."""

    name: str
    label: int
    mask: str = ""


@dataclass(frozen=True, slots=True)
class _Kept:
    file: ImageFile
    sha256: bytes
    seen: ImageInfo
    mask: bytes = b""
    """The SHA-256 of its mask, empty without one."""


def image_file_dataset(
    read: Read,
    name: str,
    classes: tuple[str, ...],
    parts: Mapping[str, Sequence[ImageFile]],
    wish: LoadOptions,
    notes: tuple[str, ...] = (),
) -> Dataset:
    """The data set of the files in `parts` ("test", perhaps "train"), in the size and colour wished for.

    Without a size the commonest is taken. Files that give no picture are skipped and listed in `notes`. Raises
    DataError when `wish.strict` and one is unreadable, when over half are, or when a class of a part loses all.
    """
    surveys = {part: _survey(read, files) for part, files in parts.items()}
    lost = [line for _, bad in surveys.values() for line in bad]
    _judge(lost, surveys, parts, classes, strict=wish.strict)
    kept = {part: good for part, (good, _) in surveys.items()}
    everything = [one for good in kept.values() for one in good]
    maskless = list(_without_mask(everything, strict=wish.strict))
    size, resized = _common_size(everything, wish)
    splits = {part: _split(read, good, size, wish) for part, good in kept.items()}
    said = (*notes, *_skipped(lost), *maskless, *resized, *_repairs(everything), *_colour(everything, wish))
    shape = (1 if wish.grayscale else 3, *size)
    return Dataset(name, classes, shape, splits["test"], splits.get("train"), said)


def reader_below(root: Path) -> Read:
    """A reader of the files below `root`."""
    return lambda name: (root / name).read_bytes()


def printable(name: str) -> str:
    """A file's name as text that every file and report can hold."""
    return name if name.isascii() else os.fsencode(name).decode("utf-8", "backslashreplace")


def _survey(read: Read, files: Sequence[ImageFile]) -> tuple[list[_Kept], list[str]]:
    """What is readable, and a line for each file that is not, in the order of `files`."""
    alike: dict[ImageInfo, ImageInfo] = {}

    def see(file: ImageFile) -> _Kept | str:
        try:
            body = read(file.name)
            seen = inspect_image(body)
            mask = _mask_hash(read, file.mask) if file.mask else b""
            return _Kept(file, hashlib.sha256(body).digest(), alike.setdefault(seen, seen), mask)
        except UnreadableImage as why:
            return f"{printable(file.name)} ({why})"
        except OSError as fault:
            return f"{printable(file.name)} ({fault.strerror})"

    with strict_pillow():
        found = list(_in_threads(see, files))
    return [one for one in found if isinstance(one, _Kept)], [one for one in found if isinstance(one, str)]


def _mask_hash(read: Read, name: str) -> bytes:
    """Empty for a mask that cannot be read, which is then told in `notes`."""
    try:
        body = read(name)
        inspect_image(body)
        return hashlib.sha256(body).digest()
    except (UnreadableImage, OSError):
        return b""


def _judge(
    lost: list[str],
    surveys: dict[str, tuple[list[_Kept], list[str]]],
    parts: Mapping[str, Sequence[ImageFile]],
    classes: tuple[str, ...],
    *,
    strict: bool,
) -> None:
    total = sum(len(files) for files in parts.values())
    if lost and (strict or 2 * len(lost) > total):
        why = "--strict makes that an error" if strict else "that is over half of them"
        raise DataError(
            f"{len(lost)} of {total} images are unreadable, and {why}; the first is {lost[0]}. Mend or remove them."
        )
    for part, (good, bad) in surveys.items():
        empty = {file.label for file in parts[part]} - {one.file.label for one in good}
        if empty:
            raise DataError(
                f"No image of class {classes[min(empty)]!r} in the {part} part is readable; the first unreadable "
                f"one is {bad[0]}. Mend the files or remove the class."
            )


def _split(read: Read, kept: Sequence[_Kept], size: tuple[int, int], wish: LoadOptions) -> Split:
    names = tuple(one.file.name for one in kept)
    known = b"".join(one.sha256 for one in kept)

    def picture(position: int) -> NDArray[np.uint8]:
        sha256 = known[32 * position : 32 * position + 32]
        return _read_again(read, names[position], sha256, size, wish)

    def fetch(index: NDArray[np.int64]) -> NDArray[np.uint8]:
        pixels = np.empty((len(index), 1 if wish.grayscale else 3, *size), np.uint8)
        # In the order they are stored: rows of one Parquet group are then decoded together, and archives read forwards.
        stored = np.argsort(index, kind="stable")
        with strict_pillow():
            for row, one in zip(stored.tolist(), _in_threads(picture, index[stored].tolist()), strict=True):
                pixels[row] = one
        return pixels

    return Split(
        labels=np.array([one.file.label for one in kept], dtype=np.int64),
        ids=tuple(printable(name) for name in names),
        fetch=fetch,
        fingerprint=_fingerprint(kept, size, wish),
        masks=_masks(read, kept, size, wish.crop) if any(one.mask for one in kept) else None,
    )


def _masks(read: Read, kept: Sequence[_Kept], size: tuple[int, int], crop: float | None) -> FetchMasks:
    names = tuple(one.file.mask if one.mask else "" for one in kept)
    known = {one.file.mask: one.mask for one in kept if one.mask}

    def mask(position: int) -> NDArray[np.bool_]:
        name = names[position]
        if not name:
            return np.zeros(size, np.bool_)
        return decode_mask(_bytes_again(read, name, known[name]), size, crop=crop)

    def fetch(index: NDArray[np.int64]) -> NDArray[np.bool_]:
        with strict_pillow():
            return (
                np.stack([mask(position) for position in index.tolist()]) if len(index) else np.zeros((0, *size), bool)
            )

    return fetch


def _read_again(read: Read, name: str, sha256: bytes, size: tuple[int, int], wish: LoadOptions) -> NDArray[np.uint8]:
    try:
        return decode(_bytes_again(read, name, sha256), size, grayscale=wish.grayscale, crop=wish.crop)
    except (OSError, UnreadableImage) as fault:
        raise DataError(
            f"{printable(name)} was readable and is no more ({fault}); check the disk and run again."
        ) from fault


def _bytes_again(read: Read, name: str, sha256: bytes) -> bytes:
    """The file as it was surveyed. Raises DataError when it has changed."""
    body = read(name)
    if hashlib.sha256(body).digest() != sha256:
        raise DataError(f"{printable(name)} changed while it was in use; run the same command again on files at rest.")
    return body


def _in_threads(work: Callable[[T], R], items: Sequence[T]) -> Iterator[R]:
    """`work` of each item in order. Decoding and hashing release the interpreter's lock."""
    with ThreadPoolExecutor(max_workers=min(8, os.cpu_count() or 1)) as pool:
        for start in range(0, len(items), _AT_ONCE):
            yield from pool.map(work, items[start : start + _AT_ONCE])


def _common_size(kept: Sequence[_Kept], wish: LoadOptions) -> tuple[tuple[int, int], tuple[str, ...]]:
    """(height, width) that every image gets, and what is said of it."""
    wanted, counts = wish.image_size, Counter(one.seen.size for one in kept)
    size = (wanted, wanted) if wanted else max(counts, key=lambda s: (counts[s], s))
    if wish.crop is not None and not wanted:
        size = (max(1, round(wish.crop * min(size))),) * 2
    if max(size) > _LARGEST_SIDE:
        raise DataError(
            f"Most images are {size[0]}x{size[1]} (height x width), larger than a classifier is given; say the size it "
            "works on with --image-size."
        )
    if wish.crop is not None:
        what = f"The middle of each image, {wish.crop:.3g} of its shorter side"
        return size, (f"{what}, was cut out and given as {size[0]}x{size[1]}.",)
    others = sum(n for s, n in counts.items() if s != size)
    why = "" if wanted else ", the commonest size"
    return size, (f"{others} of {len(kept)} images were resized to {size[0]}x{size[1]}{why}.",) if others else ()


def _skipped(lost: list[str]) -> Iterator[str]:
    if lost:
        more = f"; and {len(lost) - _LISTED} more" if len(lost) > _LISTED else ""
        were = "image is unreadable and was" if len(lost) == 1 else "images are unreadable and were"
        yield f"{len(lost)} {were} skipped: {'; '.join(lost[:_LISTED])}{more}."


def _without_mask(kept: Sequence[_Kept], *, strict: bool) -> Iterator[str]:
    lost = [one.file.mask for one in kept if one.file.mask and not one.mask]
    if lost and strict:
        raise DataError(
            f"{len(lost)} masks are unreadable, and --strict makes that an error; the first is {printable(lost[0])}."
        )
    if lost:
        yield f"{len(lost)} masks are unreadable and were left out, {printable(lost[0])} the first."


def _repairs(kept: Sequence[_Kept]) -> Iterator[str]:
    counts = Counter(repair for one in kept for repair in one.seen.repairs)
    for repair in sorted(counts):
        yield f"Images {repair}: {counts[repair]}."


def _colour(kept: Sequence[_Kept], wish: LoadOptions) -> Iterator[str]:
    if not wish.grayscale and all(one.seen.grey for one in kept):
        yield "Every image is grey and is given as three equal channels; --grayscale gives one."


def _fingerprint(kept: Sequence[_Kept], size: tuple[int, int], wish: LoadOptions) -> str:
    digest = hashlib.sha256(repr((_DECODER, size, wish.grayscale)).encode())
    if wish.crop is not None:
        digest.update(f"crop {wish.crop!r}".encode())
    for one in kept:
        digest.update(repr((one.file.name, one.file.label)).encode() + one.sha256 + one.mask)
    return digest.hexdigest()
