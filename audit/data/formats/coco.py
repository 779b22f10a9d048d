"""COCO annotations: one JSON file that lists images, categories and boxes."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from audit.core.errors import DataError, one_line
from audit.core.note import Note, note
from audit.core.registry import data_format
from audit.data.dataset import Dataset, LoadOptions, Split
from audit.data.listed_boxes import ListedImage, require_class, split_of_boxes

_Rows = Sequence[Mapping[str, Any]]


@data_format(argument="FILE.json[,images=DIR][,train=FILE.json]", boxes=True, reference="arXiv:1405.0312")
def coco(argument: str, options: LoadOptions) -> Dataset:
    """Images with boxes that a COCO file lists: instances_val2017.json, and those that tools export as COCO.

    Images are looked for in the folder after `images=`, else beside the file, in `images` beside or above it, and in
    the folder that the file is named after. Categories are in the order of their numbers, which may have gaps. A file
    of training images after `train=` lists the same categories; its images are looked for in the folder after
    `train-images=`, else as the others are.

    Args:
        argument: The file, and perhaps a folder of images, a file of training images and their folder.
        options: How images are loaded.

    Raises:
        DataError: A file is no such file, an annotation names an image or a category that is not listed, or the files
            list different categories.
    """
    place, *further = re.split(r",(?=(?:images|train|train-images)=)", argument)
    given = dict(part.split("=", 1) for part in further)
    whole = _read(Path(place), given.get("images", ""), options)
    train = None
    if "train" in given:
        part = _read(Path(given["train"]), given.get("train-images", ""), options)
        if part.categories != whole.categories:
            raise DataError(
                f"{Path(given['train']).name} lists other categories than {Path(place).name}: both files must list the "
                "same numbers and names."
            )
        train = part.split
    side = whole.split.fetch(np.zeros(1, np.int64)).shape[1:]
    shape = (int(side[0]), int(side[1]), int(side[2]))
    ids, names = tuple(whole.categories), tuple(whole.categories.values())
    return Dataset(Path(place).name, names, shape, whole.split, train, notes=whole.notes, category_ids=ids)


@dataclass(frozen=True)
class _Part:
    """What one file lists: its images, the names of its categories by number, and notes."""

    split: Split
    categories: dict[int, str]
    notes: tuple[Note, ...]


def _read(path: Path, folder: str, options: LoadOptions) -> _Part:
    images, annotations, rows = _tables(path)
    categories = {int(row["id"]): str(row["name"]) for row in sorted(rows, key=lambda row: int(row["id"]))}
    positions, names = {own: at for at, own in enumerate(categories)}, tuple(categories.values())
    listed = _listed(path, images, annotations, positions, names, _folders(path, folder))
    split, notes = split_of_boxes(listed, options, path.name)
    crowds = sum(bool(row.get("iscrowd")) for row in annotations)
    if crowds:
        said = note(
            "data_crowds",
            "{count} boxes stand for a crowd: what is found there is neither right nor wrong.",
            count=crowds,
        )
        notes = (*notes, said)
    return _Part(split, categories, notes)


def _tables(path: Path) -> tuple[_Rows, _Rows, _Rows]:
    if not path.is_file():
        raise DataError(f"There is no file {path} of annotations: give a COCO file, as coco:instances.json.")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as fault:
        raise DataError(f"{path.name} cannot be read as JSON ({one_line(fault)}). Give a COCO file.") from fault
    if not isinstance(content, Mapping):
        raise DataError(f"{path.name} is a list, and a COCO file has images, annotations and categories.")
    missing = [name for name in ("images", "annotations", "categories") if not isinstance(content.get(name), list)]
    if missing:
        raise DataError(
            f"{path.name} has no {' and no '.join(missing)}: a COCO file lists images, annotations and categories. "
            "Files of image names alone, as of COCO's test part, have nothing to measure against."
        )
    if not content["annotations"]:
        raise DataError(f"{path.name} has images and not one annotation: nothing can be measured against it.")
    ids = [row.get("id") for row in content["categories"]]
    if twice := next((own for own in ids if ids.count(own) > 1), None):
        raise DataError(f"{path.name} lists two categories of the number {twice}. Give each a number of its own.")
    return content["images"], content["annotations"], content["categories"]


def _listed(
    path: Path,
    images: _Rows,
    annotations: _Rows,
    positions: Mapping[int, int],
    names: Sequence[str],
    folders: Sequence[Path],
) -> Iterator[ListedImage]:
    try:
        by_image: dict[Any, list[Mapping[str, Any]]] = defaultdict(list)
        for row in annotations:
            by_image[row["image_id"]].append(row)
        known = {row["id"]: str(row["file_name"]) for row in images}
        stray = next((key for key in by_image if key not in known), None)
        if stray is not None:
            raise DataError(f"{path.name} has annotations of an image {stray!r} that it does not list. Write it again.")
        for image in images:
            rows, name = by_image.get(image["id"], []), known[image["id"]]
            boxes = np.array([row["bbox"] for row in rows], np.float64).reshape(-1, 4)
            boxes[:, 2:] += boxes[:, :2]
            labels = [
                require_class(positions.get(row["category_id"]), row["category_id"], name, names, path.name)
                for row in rows
            ]
            stated = (int(image["height"]), int(image["width"])) if "height" in image and "width" in image else None
            yield ListedImage(
                name=name,
                path=_file_of(name, folders),
                boxes=boxes,
                labels=np.array(labels, np.int64),
                areas=np.array([row.get("area", np.nan) for row in rows], np.float64),
                crowd=np.array([bool(row.get("iscrowd", 0)) for row in rows], np.bool_),
                size=stated,
            )
    except (KeyError, TypeError, ValueError) as fault:
        what = f"lacks {fault}" if isinstance(fault, KeyError) else one_line(fault)
        raise DataError(
            f"{path.name}: an entry {what}; images need id and file_name, annotations image_id, category_id and bbox "
            "(x, y, width, height)."
        ) from fault


def _folders(path: Path, given: str) -> tuple[Path, ...]:
    if given:
        folder = Path(given)
        if not folder.is_dir():
            raise DataError(f"There is no folder {given!r} of images for {path.name}.")
        return (folder,)
    stem = path.stem.removeprefix("instances_")
    around = (path.parent, path.parent.parent)
    return (path.parent, *(base / name for base in around for name in ("images", f"images/{stem}", stem)))


def _file_of(name: str, folders: Sequence[Path]) -> Path:
    """Where an image is; in the first folder where it is nowhere. A name never leads out of its folder."""
    relative = Path(*(part for part in Path(name).parts if part not in ("..", "/")))
    tried = [folder / inner for inner in (relative, Path(relative.name)) for folder in folders]
    return next((path for path in tried if path.is_file()), tried[0])
