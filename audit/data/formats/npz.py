"""NumPy archives: `x_train, y_train, x_test, y_test` as Keras ships them, or `images, labels`."""

from __future__ import annotations

import re
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from audit.core.errors import DataError
from audit.core.note import Note
from audit.core.registry import data_format
from audit.data.array_labels import array_labels
from audit.data.arrays import PLAIN_RANGES, array_range, array_split
from audit.data.cohorts import cohorts_of, group_columns
from audit.data.dataset import Dataset, LoadOptions
from audit.data.other_files import other_kind
from audit.data.split_names import part_of, split_of

LARGEST_ARCHIVE = 16 << 30
"""Bytes an archive may unpack to: these arrays live in memory; a larger set belongs in a folder."""

_TEST = (
    *(("x_test", "y_test"), ("images", "labels"), ("test_images", "test_labels")),
    *(("x_val", "y_val"), ("x_valid", "y_valid"), ("val_images", "val_labels")),
)
_TRAIN = (("x_train", "y_train"), ("train_images", "train_labels"))


@data_format(argument="FILE", columns=True)
def npz(source: str, options: LoadOptions) -> Dataset:
    """A NumPy archive with arrays x_test and y_test, perhaps x_train and y_train, or images and labels.

    An optional array `classes` names the classes in label order. Further arrays of one value an image are kept to
    compare groups of images; with two parts their names say which they belong to, as in site_train and site_test.

    Args:
        source: The path of the .npz file.
        options: `pixel_range` is used, and `strict`, which makes a missing label an error.

    Raises:
        DataError: When the file is damaged, its arrays are no images and labels, or they hold Python objects: those
            are pickles, which can run code.
    """
    path = Path(source)
    arrays = _read(path)
    chosen = (options.columns.path or "images", options.columns.label or "labels")
    tests = (chosen,) if options.columns.path or options.columns.label else _TEST
    pairs = {split: pair for split, names in (("test", tests), ("train", _TRAIN)) if (pair := _pair(arrays, names))}
    if not pairs and tests is _TEST:
        pairs = _pairs_by_words(arrays)
    if not pairs:
        raise DataError(
            f"{path.name} holds the arrays {', '.join(sorted(arrays)) or 'none'}; x_test and y_test (x_train and "
            "y_train too, to train), or images and labels, were expected. Save it with numpy.savez under these names, "
            "or choose two arrays with --path-column NAME and --label-column NAME."
        )
    names = _names(arrays["classes"], path) if "classes" in arrays else ()
    for images, labels in pairs.values():
        _require_as_many(images, labels, path.name)
    classes, numbers, notes = array_labels(
        [labels for _, labels in pairs.values()], path.name, names=names, strict=options.strict
    )
    pixel_range, ranged = array_range([images for images, _ in pairs.values()], path.name, options.pixel_range)
    splits = {
        split: array_split(
            images[kept >= 0] if (kept < 0).any() else images,
            kept[kept >= 0],
            name=split,
            classes=len(classes),
            source=f"{path.name} ({split})",
            pixel_range=pixel_range,
        )
        for (split, (images, _)), kept in zip(pairs.items(), numbers, strict=True)
    }
    shapes = {split: part.fetch(np.zeros(1, np.int64)).shape[1:] for split, part in splits.items()}
    if len(set(shapes.values())) > 1:
        raise DataError(
            f"{path.name} has training images of shape {shapes['train']} but test images of {shapes['test']}."
        )
    columns, said = _columns(arrays, pairs, numbers, path.name)
    splits = {split: replace(part, cohorts=columns[split]) for split, part in splits.items()}
    channels, height, width = next(iter(shapes.values()))
    test, train = splits.get("test", splits.get("train")), splits.get("train") if "test" in splits else None
    assert test is not None
    return Dataset(
        path.name,
        classes,
        (channels, height, width),
        test,
        train,
        (*notes, *ranged, *said),
        pixel_range if options.pixel_range or pixel_range not in PLAIN_RANGES else None,
        training_alone="test" not in splits,
    )


def _columns(
    arrays: Mapping[str, NDArray[Any]],
    pairs: Mapping[str, tuple[NDArray[Any], NDArray[Any]]],
    numbers: Sequence[NDArray[np.int64]],
    name: str,
) -> tuple[dict[str, Mapping[str, NDArray[Any]]], tuple[Note, ...]]:
    """What the further arrays say of the images of each part that have a label, and what is to be said of them."""
    taken = {id(array) for pair in pairs.values() for array in pair}
    rest = {array: held for array, held in arrays.items() if id(held) not in taken and array != "classes"}
    by_part = {part: _of_part(rest, part, len(labels), alone=len(pairs) == 1) for part, (_, labels) in pairs.items()}
    images = [f"{part}/{row}" for part, (_, labels) in pairs.items() for row in range(len(labels))]

    def cells(column: str) -> list[Any]:
        held = ((by_part[part].get(column), len(labels)) for part, (_, labels) in pairs.items())
        return [cell for array, count in held for cell in ([None] * count if array is None else array.tolist())]

    files = [
        [f"{part}/{row}" for row in np.flatnonzero(labels >= 0).tolist()]
        for part, labels in zip(pairs, numbers, strict=True)
    ]
    classes = [labels[labels >= 0].tolist() for labels in numbers]
    kept, said = group_columns(
        images,
        ((column, cells(column)) for column in dict.fromkeys(c for columns in by_part.values() for c in columns)),
        {
            file: label
            for part, known in zip(files, classes, strict=True)
            for file, label in zip(part, known, strict=True)
        },
        name,
    )
    return dict(zip(pairs, cohorts_of(kept, files), strict=True)), said


def _of_part(arrays: Mapping[str, NDArray[Any]], part: str, count: int, *, alone: bool) -> dict[str, NDArray[Any]]:
    """The arrays of one value an image of a part, by their names without the word for it."""
    columns = {}
    for name, array in arrays.items():
        flat = array.reshape(-1) if array.ndim == 2 and array.shape[1] == 1 else array
        if flat.ndim != 1 or len(flat) != count or flat.dtype.kind not in "biufUS":
            continue
        words = re.split(r"[_.\- ]", name)
        said = [split_of(_SHORT.get(word.casefold(), word)) for word in words]
        rest = [word for word, other in zip(words, said, strict=True) if other is None]
        parts = set(said) - {None}
        if rest and (parts == {part} or (alone and not parts)):
            texts = np.char.decode(flat, "utf-8", "backslashreplace") if flat.dtype.kind == "S" else flat
            columns["_".join(rest)] = texts
    return columns


def _read(path: Path) -> Mapping[str, NDArray[Any]]:
    if not path.is_file():
        raise DataError(f"No file {str(path)!r}; give the .npz file after npz:.")
    kind = other_kind(path)
    if kind and not kind.startswith("is a zip file"):
        raise DataError(f"{path.name} is not a whole .npz archive: it {kind}.")
    try:
        with zipfile.ZipFile(path) as archive:
            size = sum(member.file_size for member in archive.infolist())
        if size > LARGEST_ARCHIVE:
            raise DataError(
                f"{path.name} unpacks to {size / 2**30:.0f} GB, and its arrays would live in memory; at most "
                f"{LARGEST_ARCHIVE >> 30} GB is read. Save the images as files and use folder:DIR."
            )
        with np.load(path, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except (zipfile.BadZipFile, zlib.error, OSError, EOFError, KeyError, ValueError) as fault:
        if "allow_pickle" in str(fault):
            raise DataError(
                f"{path.name} holds arrays of Python objects, which are pickles and could run code; they are not read. "
                "Save plain numbers, and names as a text array."
            ) from fault
        raise DataError(
            f"{path.name} is not a whole .npz archive ({fault}); write it again with numpy.savez."
        ) from fault


def _pair(
    arrays: Mapping[str, NDArray[Any]], names: tuple[tuple[str, str], ...]
) -> tuple[NDArray[Any], NDArray[Any]] | None:
    """The first of the pairs that is there, in whatever case."""
    folded = {name.casefold(): name for name in arrays}
    found = ((folded.get(x.casefold()), folded.get(y.casefold())) for x, y in names)
    return next(((arrays[x], arrays[y]) for x, y in found if x is not None and y is not None), None)


def _pairs_by_words(arrays: Mapping[str, NDArray[Any]]) -> dict[str, tuple[NDArray[Any], NDArray[Any]]]:
    """Images and labels of the test and the training part, by names such as train_x, X and y, data and target."""
    held: dict[str, dict[str, str]] = {}
    for name in arrays:
        words = re.findall(r"[a-z]+", re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name).casefold())
        what = [kind for kind, usual in _WORDS.items() if words and usual & {words[0], words[-1]}]
        rest = [word for word in words if not any(word in usual for usual in _WORDS.values())]
        part = part_of(_SHORT.get(rest[0], rest[0])) if len(rest) == 1 else None if rest else "test"
        if len(what) == 1 and part is not None:
            if what[0] in held.setdefault(part, {}):
                return {}  # two arrays of one meaning
            held[part][what[0]] = name
    whole = {part: names for part, names in held.items() if len(names) == len(_WORDS)}
    test = whole.get("test", whole.get("validation"))
    split = {"test": test, "train": whole.get("train")}
    return {part: (arrays[names["images"]], arrays[names["labels"]]) for part, names in split.items() if names}


_WORDS = {
    "images": frozenset(("x", "data", "image", "images", "imgs", "pixels", "inputs")),
    "labels": frozenset(("y", "label", "labels", "target", "targets")),
}
_SHORT = {"tr": "train", "te": "test", "va": "val"}


def _require_as_many(images: NDArray[Any], labels: NDArray[Any], name: str) -> None:
    """Raises DataError where there is not one label for each image."""
    if images.ndim == 4 and images.shape[3] == len(labels) != len(images):
        raise DataError(
            f"{name} has images of shape {images.shape}, whose last axis counts the images, as in the MATLAB files of "
            "SVHN; it must come first: save numpy.moveaxis(images, -1, 0)."
        )
    if not images.ndim or not labels.ndim:
        raise DataError(f"{name} holds a single number where an array with an entry for each image was expected.")
    if len(images) != len(labels):
        raise DataError(
            f"{name} has {len(images)} images but {len(labels)} labels; one label for each image was expected. Write "
            "both again from the same examples."
        )


def _names(array: NDArray[Any], path: Path) -> tuple[str, ...]:
    names = tuple(str(name) for name in array.reshape(-1))
    if array.dtype.kind not in "US" or len(names) < 2 or len(set(names)) != len(names):
        raise DataError(f"{path.name}: `classes` is {names[:5]}; two or more different names as text were expected.")
    return names
