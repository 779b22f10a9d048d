"""Pascal VOC annotations: a folder with one XML file an image."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from xml.etree import ElementTree

import numpy as np

from audit.core.errors import DataError, one_line
from audit.core.note import Note
from audit.core.registry import data_format
from audit.data.dataset import Dataset, LoadOptions, Split
from audit.data.image_decoding import IMAGE_SUFFIXES
from audit.data.listed_boxes import ListedImage, require_class, split_of_boxes

_SIDES = ("xmin", "ymin", "xmax", "ymax")
_TESTED, _TRAINED = ("test", "val"), ("train",)


@data_format(argument="DIR", boxes=True, reference="doi:10.1007/s11263-009-0275-4")
def voc(argument: str, options: LoadOptions) -> Dataset:
    """Images with boxes in Pascal VOC's XML: Annotations and JPEGImages, or both kinds of file in one folder.

    The parts are those of ImageSets/Main: test.txt or else val.txt to test on, train.txt to train on; without them all
    images are tested on. Pixels count from 1, as VOC's do. Objects marked difficult are neither found nor missed.

    Args:
        argument: The folder.
        options: How images are loaded.

    Raises:
        DataError: There is no such file, one cannot be read, or an object lacks its box.
    """
    root = Path(argument)
    folder = root / "Annotations" if (root / "Annotations").is_dir() else root
    files = {path.stem: path for path in sorted(folder.glob("*.xml"))}
    if not files:
        raise DataError(f"{argument!r} holds no XML file of annotations, nor does a folder Annotations in it.")
    trees = {stem: _tree(path) for stem, path in files.items()}
    classes = tuple(
        sorted({_text(item, "name", files[s]) for s, tree in trees.items() for item in tree.iter("object")})
    )
    if not classes:
        raise DataError(f"No XML file of {argument!r} has an object: nothing can be measured against them.")

    def part(stems: Sequence[str]) -> tuple[Split, tuple[Note, ...]]:
        listed = (_listed(stem, trees[stem], files[stem], root, classes) for stem in stems)
        return split_of_boxes(listed, options, root.name)

    test, notes = part(_part_of(root, _TESTED, files) or list(files))
    trained = _part_of(root, _TRAINED, files)
    train = part(trained)[0] if trained else None
    shape = test.fetch(np.zeros(1, np.int64)).shape[1:]
    return Dataset(root.name, classes, (int(shape[0]), int(shape[1]), int(shape[2])), test, train, notes)


def _tree(path: Path) -> ElementTree.Element:
    try:
        body = path.read_bytes()
        if b"<!ENTITY" in body or b"<!DOCTYPE" in body:
            raise DataError(f"{path.name} declares entities, which no annotation needs; it is not read.")
        return ElementTree.fromstring(body)
    except (OSError, ElementTree.ParseError) as fault:
        raise DataError(f"{path.name} cannot be read as XML ({one_line(fault)}).") from fault


def _part_of(root: Path, names: Sequence[str], files: dict[str, Path]) -> list[str]:
    """The images of the first part that has a list."""
    for name in names:
        listed = root / "ImageSets" / "Main" / f"{name}.txt"
        if listed.is_file():
            stems = [line.split()[0] for line in listed.read_text(encoding="utf-8").splitlines() if line.strip()]
            missing = next((stem for stem in stems if stem not in files), None)
            if missing is not None:
                raise DataError(f"{listed.name} lists {missing!r}, which has no XML file of annotations.")
            return stems
    return []


def _listed(stem: str, tree: ElementTree.Element, path: Path, root: Path, classes: Sequence[str]) -> ListedImage:
    items = list(tree.iter("object"))
    boxes = [[_number(item, side, path) for side in _SIDES] for item in items]
    corners = np.array(boxes, np.float64).reshape(-1, 4)
    corners[:, :2] -= 1  # from pixels that count from 1, both ends included, to edges
    size = tree.find("size")
    stated = None if size is None else (int(_number(size, "height", path)), int(_number(size, "width", path)))
    named = tree.findtext("filename") or stem
    return ListedImage(
        name=Path(named).name,
        path=_image_of(root, stem, Path(named).name),
        boxes=corners,
        labels=np.array([_position(_text(item, "name", path), classes, path) for item in items], np.int64),
        areas=np.full(len(items), np.nan),
        crowd=np.array([(item.findtext("difficult") or "0").strip() == "1" for item in items], np.bool_),
        size=stated if stated and min(stated) > 0 else None,
    )


def _position(name: str, classes: Sequence[str], path: Path) -> int:
    return require_class(classes.index(name) if name in classes else None, name, path.stem, classes, path.name)


def _image_of(root: Path, stem: str, named: str) -> Path:
    folders = (root / "JPEGImages", root / "images", root)
    names = (named, *(f"{stem}{suffix}" for suffix in sorted(IMAGE_SUFFIXES)))
    found = (folder / name for folder in folders for name in names if (folder / name).is_file())
    return next(found, folders[0] / named)


def _text(item: ElementTree.Element, name: str, path: Path) -> str:
    value = (item.findtext(name) or "").strip()
    if not value:
        raise DataError(f"{path.name} has an object without {name}.")
    return value


def _number(item: ElementTree.Element, name: str, path: Path) -> float:
    place = item.find("bndbox") if name in _SIDES else item
    text = None if place is None else place.findtext(name)
    try:
        return float(text or "")
    except ValueError:
        raise DataError(f"{path.name} has an entry without {name}, or one that is no number ({text!r}).") from None
