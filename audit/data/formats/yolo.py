"""YOLO text files: one file an image, a line an object, the names of the classes beside them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from audit.core.errors import DataError
from audit.core.note import note
from audit.core.registry import data_format
from audit.data.dataset import Dataset, LoadOptions
from audit.data.image_decoding import IMAGE_SUFFIXES
from audit.data.listed_boxes import ListedImage, require_class, split_of_boxes

_TESTED, _TRAINED = ("test", "val", "valid"), ("train",)
_ABSOLUTE = 2.0
"""A coordinate above it is in pixels: shares end at 1."""
_Rows = list[tuple[int, NDArray[np.float64]]]


@data_format(argument="DIR", boxes=True)
def yolo(argument: str, options: LoadOptions) -> Dataset:
    """Images with YOLO's text files: folders images and labels, names in data.yaml, classes.txt or obj.names.

    A line holds a class, from 0, and the middle and the sides of a box as shares of the image's sides, or in pixels; a
    polygon in its place gives its bounding box. An image without a file, or with an empty one, has no object. The parts
    are subfolders: test, val or valid to test on, train to train on.

    Args:
        argument: The folder.
        options: How images are loaded.

    Raises:
        DataError: There are no names, no images, or a line is not as expected.
    """
    root = Path(argument)
    classes = _class_names(root)
    tested = _images(root, _TESTED)
    trained = _images(root, _TRAINED)
    if not tested:
        tested, trained = (trained, []) if trained else (_images(root, ("",)), [])
    if not tested:
        raise DataError(f"{argument!r} holds no images: a folder images with pictures, or val/images, was expected.")
    rows = {path: _rows(_label_file(path), path, classes, root) for path in (*tested, *trained)}
    if not any(rows.values()):
        raise DataError(
            f"No image of {argument!r} has a line of labels: files like labels/{tested[0].stem}.txt were looked for."
        )
    absolute = max(float(box.max()) for own in rows.values() for _, box in own) > _ABSOLUTE

    def listed(paths: Sequence[Path]) -> Iterator[ListedImage]:
        for path in paths:
            boxes = np.array([box for _, box in rows[path]], np.float64).reshape(-1, 4)
            yield ListedImage(
                name=str(path.relative_to(root)),
                path=path,
                boxes=np.concatenate([boxes[:, :2] - boxes[:, 2:] / 2, boxes[:, :2] + boxes[:, 2:] / 2], 1),
                labels=np.array([label for label, _ in rows[path]], np.int64),
                areas=np.full(len(boxes), np.nan),
                crowd=np.zeros(len(boxes), np.bool_),
                relative=not absolute,
            )

    test, notes = split_of_boxes(listed(tested), options, root.name)
    train = split_of_boxes(listed(trained), options, root.name)[0] if trained else None
    if absolute:
        notes = (*notes, note("data_yolo_pixels", "The boxes are taken to be in pixels, as some are above 1."))
    shape = test.fetch(np.zeros(1, np.int64)).shape[1:]
    return Dataset(root.name, classes, (int(shape[0]), int(shape[1]), int(shape[2])), test, train, notes)


def _class_names(root: Path) -> tuple[str, ...]:
    for name in ("classes.txt", "obj.names"):
        if (root / name).is_file():
            lines = (root / name).read_text(encoding="utf-8").splitlines()
            return tuple(line.strip() for line in lines if line.strip())
    for path in sorted((*root.glob("*.yaml"), *root.glob("*.yml"))):
        names = _names_in(path.read_text(encoding="utf-8"))
        if names:
            return names
    raise DataError(
        f"{str(root)!r} does not name its classes: data.yaml with names, or classes.txt with a name a line, was "
        "expected."
    )


def _names_in(text: str) -> tuple[str, ...]:
    """The value of `names` in a YAML file: a list in brackets, a dashed list, or numbered entries."""
    inline = re.search(r"^names:\s*[\[{](.*?)[\]}]", text, re.MULTILINE | re.DOTALL)
    if inline:
        parts = (re.sub(r"^\s*\d+\s*:", "", part) for part in inline[1].split(","))
        return tuple(name for part in parts if (name := part.strip().strip("'\"")))
    block = re.search(r"^names:[ \t]*(?:#.*)?\n((?:[ \t]*(?:-|\d+\s*:).*\n?|\s*#.*\n?|\s*\n)*)", text, re.MULTILINE)
    lines = block[1].splitlines() if block else []
    entries = (re.match(r"\s*(?:-|\d+\s*:)\s*(.+?)\s*(?:#.*)?$", line) for line in lines)
    return tuple(entry[1].strip("'\"") for entry in entries if entry)


def _images(root: Path, parts: Sequence[str]) -> list[Path]:
    """The images of the first part that has some."""
    for part in parts:
        for folder in (
            (root / "images" / part, root / part / "images", root / part) if part else (root / "images", root)
        ):
            if folder.is_dir():
                paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in IMAGE_SUFFIXES)
                if paths:
                    return paths
    return []


def _label_file(image: Path) -> Path:
    """The text file of an image: beside it, or with the last folder `images` of its path as `labels`."""
    parts = list(image.parts)
    if "images" in parts[:-1]:
        at = len(parts) - 2 - parts[-2::-1].index("images")
        parts[at] = "labels"
    elsewhere = Path(*parts).with_suffix(".txt")
    beside = image.with_suffix(".txt")
    return beside if beside.is_file() and not elsewhere.is_file() else elsewhere


def _rows(path: Path, image: Path, classes: Sequence[str], root: Path) -> _Rows:
    if not path.is_file():
        return []
    rows: _Rows = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        if not line.strip():
            continue
        try:
            values = [float(word) for word in line.split()]
        except ValueError:
            values = []
        if len(values) != 5 and (len(values) < 7 or len(values) % 2 == 0):
            raise DataError(
                f"{path.relative_to(root)}, line {number}: {line.strip()[:60]!r} is no object; a class and four "
                "numbers were expected: the middle and the sides of a box."
            )
        label = int(values[0])
        position = label if 0 <= label < len(classes) and label == values[0] else None
        position = require_class(position, values[0], image.name, classes, root.name)
        rows.append((position, _box(np.array(values[1:]))))
    return rows


def _box(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """The middle and the sides; of a polygon, those of its bounding box."""
    if len(values) == 4:
        return values
    points = values.reshape(-1, 2)
    low, high = points.min(0), points.max(0)
    return np.concatenate([(low + high) / 2, high - low])
