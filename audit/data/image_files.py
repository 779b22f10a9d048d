"""Data sets of image files: surveyed once, then decoded when they are needed, never all in memory."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from audit.core.errors import DataError
from audit.core.image_options import PixelRange
from audit.core.note import Note, note
from audit.data.cohorts import Cells, Cohorts, cohorts_of, size_cells
from audit.data.dataset import Dataset, FetchMasks, LoadOptions, Split
from audit.data.duplicates import duplicate_notes
from audit.data.image_decoding import UnreadableImage, decode, decode_mask, strict_pillow
from audit.data.image_notes import image_notes, lost_image_notes, mask_notes, skipped_notes
from audit.data.image_survey import ImageFile, Read, SurveyedImage, check_readable, in_threads, printable, survey
from audit.data.pixel_range import common_range
from audit.data.resizing import filter_words

_LARGEST_SIDE = 1024
_SAME_PROPORTIONS = 1.05
_DECODER = 1
"""Raised when the same file is read into other pixels."""
_NO_CELLS: Cells = {}


def image_file_dataset(
    read: Read,
    name: str,
    classes: tuple[str, ...],
    files_by_split: Mapping[str, Sequence[ImageFile]],
    options: LoadOptions,
    notes: tuple[Note, ...] = (),
    *,
    every: bool = False,
    cells: Cells = _NO_CELLS,
) -> Dataset:
    """Make a data set of image files, all of one size and colour.

    Files that are no readable image are skipped and listed in its notes. Training images alone are its test part, which
    `training_alone` says.

    Args:
        read: Gives a file's bytes by name; several threads may call it.
        name: The data set's name, without any path.
        classes: Class names in label order.
        files_by_split: The files of "test", of "train", or of both.
        options: Size, colour, crop and the rest; without a size the commonest of the images is taken.
        notes: What the reader of the files has to say; these come first.
        every: Refuse a single unreadable file, as each of them was named.
        cells: What a table says of the files beside their labels.

    Raises:
        DataError: When too many files are unreadable (`image_survey.check_readable`), or the images are larger than
            1024 pixels and no size is given.
    """
    alone = "train" in files_by_split and not files_by_split.get("test")
    if alone:
        files_by_split = {"test": files_by_split["train"]}
    surveys = {split: survey(read, files) for split, files in files_by_split.items()}
    check_readable(surveys, files_by_split, classes, strict=options.strict, every=every)
    readable = {split: images for split, (images, _) in surveys.items()}
    all_images = [image for images in readable.values() for image in images]
    maskless = tuple(mask_notes(all_images, strict=options.strict))
    size, resized = _common_size(all_images, options)
    pixel_range = _pixel_range(all_images, options, name)
    options = replace(options, pixel_range=pixel_range)
    cohorts = cohorts_of(
        {**cells, **size_cells({image.file.name: image.info.size for image in all_images})},
        [[image.file.name for image in images] for images in readable.values()],
    )
    splits = {
        split: _split(read, images, size, options, columns)
        for (split, images), columns in zip(readable.items(), cohorts, strict=True)
    }
    skipped = tuple(skipped_notes([line for _, lines in surveys.values() for line in lines]))
    skipped = (*skipped, *lost_image_notes(files_by_split, readable, classes))
    notes = (*notes, *skipped, *maskless, *resized, *image_notes(all_images, classes, options, pixel_range))
    notes += tuple(duplicate_notes(readable))
    shape = (1 if options.grayscale else 3, *size)
    return Dataset(name, classes, shape, splits["test"], splits.get("train"), notes, pixel_range, alone)


def reader_below(root: Path) -> Read:
    """A function that reads the files below a folder by their relative names.

    Args:
        root: The folder.
    """
    return lambda name: (root / name).read_bytes()


def _pixel_range(images: Sequence[SurveyedImage], options: LoadOptions, name: str) -> PixelRange | None:
    """What is black and white in the images of more than 8 bits, of both parts; None where there are none."""
    extents = [image.info.extent for image in images if image.info.extent is not None]
    return (options.pixel_range or common_range(extents, name)) if extents else None


def _split(
    read: Read, images: Sequence[SurveyedImage], size: tuple[int, int], options: LoadOptions, cohorts: Cohorts
) -> Split:
    names = tuple(image.file.name for image in images)
    hashes = b"".join(image.sha256 for image in images)

    def pixels_of(position: int) -> NDArray[np.uint8]:
        sha256 = hashes[32 * position : 32 * position + 32]
        return _decode_again(read, names[position], sha256, size, options)

    def fetch(index: NDArray[np.int64]) -> NDArray[np.uint8]:
        batch = np.empty((len(index), 1 if options.grayscale else 3, *size), np.uint8)
        # In the order they are stored: rows of one Parquet group are then decoded together, and archives read forwards.
        stored = np.argsort(index, kind="stable")
        with strict_pillow():
            for row, pixels in zip(stored.tolist(), in_threads(pixels_of, index[stored].tolist()), strict=True):
                batch[row] = pixels
        return batch

    return Split(
        labels=np.array([image.file.label for image in images], dtype=np.int64),
        ids=tuple(printable(name) for name in names),
        fetch=fetch,
        fingerprint=_fingerprint(images, size, options),
        masks=_masks(read, images, size, options.crop) if any(image.mask for image in images) else None,
        sizes=np.array([image.info.size for image in images], dtype=np.int32),
        cohorts=cohorts,
    )


def _masks(read: Read, images: Sequence[SurveyedImage], size: tuple[int, int], crop: float | None) -> FetchMasks:
    names = tuple(image.file.mask if image.mask else "" for image in images)
    hashes = {image.file.mask: image.mask for image in images if image.mask}

    def mask(position: int) -> NDArray[np.bool_]:
        name = names[position]
        if not name:
            return np.zeros(size, np.bool_)
        return decode_mask(_read_again(read, name, hashes[name]), size, crop=crop)

    def fetch(index: NDArray[np.int64]) -> NDArray[np.bool_]:
        with strict_pillow():
            return (
                np.stack([mask(position) for position in index.tolist()]) if len(index) else np.zeros((0, *size), bool)
            )

    return fetch


def _decode_again(
    read: Read, name: str, sha256: bytes, size: tuple[int, int], options: LoadOptions
) -> NDArray[np.uint8]:
    try:
        return decode(
            _read_again(read, name, sha256),
            size,
            grayscale=options.grayscale,
            crop=options.crop,
            interpolation=options.interpolation or "bilinear",
            transparency=options.transparency,
            pixel_range=options.pixel_range,
        )
    except (OSError, UnreadableImage) as fault:
        raise DataError(
            f"{printable(name)} was readable and is no more ({fault}); check the disk and run again."
        ) from fault


def _read_again(read: Read, name: str, sha256: bytes) -> bytes:
    """The file as it was surveyed. Raises DataError when it has changed."""
    body = read(name)
    if hashlib.sha256(body).digest() != sha256:
        raise DataError(f"{printable(name)} changed while it was in use; run the same command again on files at rest.")
    return body


def _common_size(images: Sequence[SurveyedImage], options: LoadOptions) -> tuple[tuple[int, int], tuple[Note, ...]]:
    """(height, width) that every image gets, and a note about it."""
    side, counts = options.image_size, Counter(image.info.size for image in images)
    size = (side, side) if side else max(counts, key=lambda s: (counts[s], s))
    if options.crop is not None and not side:
        size = (max(1, round(options.crop * min(size))),) * 2
    if max(size) > _LARGEST_SIDE:
        raise DataError(
            f"Most images are {size[0]}x{size[1]} (height x width), larger than a classifier is given; say the size it "
            "works on with --image-size."
        )
    by = filter_words(options.interpolation)
    if options.crop is not None:
        cut = note(
            "data_cut",
            "The middle of each image, {share} of its shorter side, was cut out and given as {size} ({filter}).",
            share=f"{options.crop:.3g}",
            size=f"{size[0]}x{size[1]}",
            filter=by,
        )
        return size, (cut,)
    resized_count = sum(n for s, n in counts.items() if s != size)
    if not resized_count:
        return size, ()
    resized = (
        note("data_resized", "{count} of {all} images were resized to {size} ({filter}).{stretched}")
        if side
        else note(
            "data_resized_commonest",
            "{count} of {all} images were resized to {size}, the commonest size ({filter}).{stretched}",
        )
    )
    return size, (
        resized.filled(
            count=resized_count,
            all=len(images),
            size=f"{size[0]}x{size[1]}",
            filter=by,
            stretched=_stretched(counts, size),
        ),
    )


def _stretched(counts: Counter[tuple[int, int]], size: tuple[int, int]) -> Note | str:
    """That images of other proportions were squeezed, where they were."""
    ratios = {s: max(s[0] * size[1], s[1] * size[0]) / max(1, min(s[0] * size[1], s[1] * size[0])) for s in counts}
    count = sum(n for s, n in counts.items() if ratios[s] > _SAME_PROPORTIONS)
    if not count:
        return ""
    return note(
        "data_stretched",
        " Squeezed into other proportions: {count}, by up to {ratio}:1; --crop 1 cuts the largest middle part out in "
        "place of that.",
        count=count,
        ratio=f"{max(ratios.values()):.1f}",
    )


def _fingerprint(images: Sequence[SurveyedImage], size: tuple[int, int], options: LoadOptions) -> str:
    digest = hashlib.sha256(repr((_DECODER, size, options.grayscale)).encode())
    if options.crop is not None:
        digest.update(f"crop {options.crop!r}".encode())
    others = {"interpolation": "bilinear", "transparency": "drop", "pixel_range": None}
    for key, usual in others.items():
        value = getattr(options, key)
        if value is not None and value != usual:
            digest.update(f"{key} {value!r}".encode())
    for image in images:
        digest.update(repr((image.file.name, image.file.label)).encode() + image.sha256 + image.mask)
    return digest.hexdigest()
