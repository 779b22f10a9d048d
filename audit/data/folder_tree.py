"""The files of a folder or an archive as a tree of folders with their pictures."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from audit.data.image_decoding import IMAGE_SUFFIXES
from audit.data.litter import litter_step

PICTURE_FOLDERS = frozenset(
    ("images", "image", "imgs", "img", "jpegimages", "pictures", "photos", "jpg", "jpeg", "png")
)
"""Names of folders that say nothing of what their pictures show."""
_MASKS = frozenset(
    (
        *("masks", "mask", "segmentation", "segmentations", "segmentation_masks", "annotations", "groundtruth", "gt"),
        *("ground_truth", "lung masks", "lung_masks", "infection masks", "trimaps", "labels"),
    )
)
_OF_A_CLASS = PICTURE_FOLDERS | _MASKS


@dataclass
class Folder:
    """A folder.

    Attributes:
        path: Its path, ending in a slash; "" for the top.
        folders: The folders directly in it, by name.
        images: The paths of the pictures directly in it, sorted.
        count: The number of pictures in it at any depth.
    """

    path: str
    folders: dict[str, Folder] = field(default_factory=dict)
    images: list[str] = field(default_factory=list)
    count: int = 0

    @property
    def name(self) -> str:
        """Its name; "" for the top."""
        return self.path.rstrip("/").rpartition("/")[2]

    @property
    def filled(self) -> dict[str, Folder]:
        """The folders directly in it that hold a picture at any depth."""
        return {name: folder for name, folder in sorted(self.folders.items()) if folder.count}

    def masks(self) -> list[Folder]:
        """The folders directly in it that hold masks of the pictures in another folder directly in it."""
        names = {name: name.casefold() for name in self.filled}
        if self.images or not PICTURE_FOLDERS & set(names.values()) or not set(names.values()) <= _OF_A_CLASS:
            return []
        return [self.folders[name] for name, folded in names.items() if folded in _MASKS]

    def all_images(self) -> list[str]:
        """The paths of the pictures in it at any depth, sorted; without those of `masks`."""
        images, aside = list(self.images), {folder.path for folder in self.masks()}
        for folder in self.folders.values():
            images += [] if folder.path in aside else folder.all_images()
        return sorted(images)


@dataclass
class Tree:
    """What lies below a folder.

    Attributes:
        top: The folder.
        endings: The endings of files that are no pictures, with their number.
        litter: Names left by systems, with the number of pictures in or behind them.
        tables: The paths of files that may list the pictures.
    """

    top: Folder
    endings: Counter[str]
    litter: Counter[str]
    tables: list[str]


def as_tree(entries: Sequence[str]) -> Tree:
    """The folders and pictures of a list of paths: by their endings, or the files without any where no ending is one.

    Args:
        entries: Relative paths with forward slashes; those of folders end in one.
    """
    tree = Tree(Folder(""), Counter(), Counter(), [])
    read = [(entry, _ending(entry), litter_step(entry)) for entry in sorted(entries)]
    pictured = {ending for _, ending, litter in read if not litter} & IMAGE_SUFFIXES or {""}
    for entry, ending, litter in read:
        image = ending in pictured and not entry.endswith("/")
        if litter:
            tree.litter[litter] += image
            continue
        folder = _folder_of(tree.top, entry, count=image)
        if image:
            folder.images.append(entry)
        elif not entry.endswith("/"):
            tree.endings[ending or "no ending"] += 1
            if ending in (".csv", ".tsv", ".jsonl", ".txt"):
                tree.tables.append(entry)
    return tree


def _ending(entry: str) -> str:
    return PurePosixPath(entry).suffix.lower()


def _folder_of(top: Folder, entry: str, *, count: bool) -> Folder:
    """The folder that an entry lies in, made where it is absent, with the counts on the way raised by `count`."""
    folder = top
    folder.count += count
    for step in entry.split("/")[:-1]:
        folder = folder.folders.setdefault(step, Folder(f"{folder.path}{step}/"))
        folder.count += count
    return folder
