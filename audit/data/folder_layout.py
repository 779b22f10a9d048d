"""The classes and parts of a folder or an archive, inferred from the names of its files."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from audit.core.errors import DataError
from audit.core.note import Note, note
from audit.data.class_labels import alike_notes
from audit.data.folder_notes import base_note, layout_notes, loose_pictures, what_lies_there
from audit.data.folder_parts import Parts, base_of, class_folders_of, find_parts
from audit.data.folder_tree import Folder, Tree, as_tree
from audit.data.image_survey import ImageFile, printable

_PILES = frozenset(
    "batch chunk dir fold folder image images img imgs part partition photos pictures set shard split subset".split()
)
"""Last words of folders that a pile of pictures was cut into, before their number."""


@dataclass(frozen=True)
class FolderLayout:
    """What the names of the files say.

    Attributes:
        base: The folder that the files' names are relative to; empty, or ending in a slash.
        classes: Class names in label order.
        files_by_split: The files of "test" and perhaps of "train"; of "train" alone where there is no other part.
        notes: Sentences about what was ignored or is missing.
    """

    base: str
    classes: tuple[str, ...]
    files_by_split: dict[str, list[ImageFile]]
    notes: tuple[Note, ...]


def infer_layout(entries: Sequence[str], source: str) -> FolderLayout:
    """One class per folder, sorted by name as torchvision and Keras sort them; images at any depth below it.

    Parts are told by their words ("train", "seg_test", "validation_set"), each perhaps wrapped once more in a folder.
    With a training part and a test part (a validation part, where no test part holds class folders) each gives its
    part; without them everything is the test part.

    Args:
        entries: Relative paths with forward slashes; those of folders end in one.
        source: Name of the folder or archive, for errors.

    Raises:
        DataError: For an empty class folder, a test class that the training part lacks, or fewer than two classes.
    """
    tree = as_tree(entries)
    base = base_of(tree.top)
    parts = find_parts(base)
    roots = {split: folder for split, folder in (("test", parts.test), ("train", parts.train)) if folder is not None}
    if parts.inside_classes:
        classes, files = _parts_inside(base, parts)
    else:
        classes, files = _parts_above(roots, base, source, tree)
    files_by_split = {
        split: [ImageFile(path[len(base.path) :], label) for path, label in sorted(listed)]
        for split, listed in files.items()
    }
    notes = (*base_note(base), *_absent(classes, files), *layout_notes(tree, base, parts), *_numbered(classes))
    notes += tuple(item for item in alike_notes(classes) if item.key == "data_case")
    notes += tuple((*_alike_inside(base), *_piles(classes, tree.tables)) if parts.test is base else ())
    return FolderLayout(base.path, classes, files_by_split, notes)


_Files = dict[str, list[tuple[str, int]]]
"""The path and the label of each picture, by part."""


def _parts_above(roots: Mapping[str, Folder], base: Folder, source: str, tree: Tree) -> tuple[tuple[str, ...], _Files]:
    """Classes and files where each part holds class folders."""
    reference = roots.get("train", roots["test"] if "test" in roots else base)
    names = list(class_folders_of(reference))
    if len(names) < 2:
        raise DataError(
            f"{printable(reference.path.rstrip('/')) or source!r} holds {len(names)} class folders; at least two, each "
            f"with images of one class, were expected.{loose_pictures(reference, tree.tables) or what_lies_there(tree)}"
        )
    files: _Files = {}
    for split, root in roots.items():
        folders = class_folders_of(root)
        labels = _labels_of(list(folders), names)
        unknown = [name for name, folder in folders.items() if name not in labels and folder.count]
        if unknown:
            raise DataError(
                f"The test part has a class {printable(unknown[0])!r} that the training part lacks ({len(unknown)} "
                "such); the same class folders were expected in both."
            )
        files[split] = [(p, labels[name]) for name in folders if name in labels for p in folders[name].all_images()]
        empty = [name for name, folder in folders.items() if not folder.count]
        if empty and root is reference:
            path = folders[empty[0]].path.rstrip("/")[len(base.path) :]
            raise DataError(
                f"The class folder {printable(path)!r} holds no images; put .jpg, .png or other pictures there or "
                "remove it."
            )
    return tuple(map(printable, names)), files


def _parts_inside(base: Folder, parts: Parts) -> tuple[tuple[str, ...], _Files]:
    """Classes and files where each class folder holds the parts."""
    names = list(base.filled)
    files: _Files = {"test": [], "train": []}
    for label, name in enumerate(names):
        for split, inner in parts.inside_classes.items():
            if inner in base.folders[name].folders:
                files[split] += [(path, label) for path in base.folders[name].folders[inner].all_images()]
    return tuple(map(printable, names)), files


def _absent(classes: Sequence[str], files: _Files) -> Iterator[Note]:
    if "test" not in files:
        return
    present = {label for _, label in files["test"]}
    missing = [name for label, name in enumerate(classes) if label not in present]
    if missing:
        listed = ", ".join(missing[:5])
        yield note("data_no_test", "No test images of {count} classes: {listed}.", count=len(missing), listed=listed)


def _numbered(classes: Sequence[str]) -> Iterator[Note]:
    """Folders 0 to 11 sort otherwise as text than as numbers."""
    if all(name.isascii() and name.isdigit() for name in classes) and list(classes) != sorted(classes, key=int):
        yield note(
            "data_text_order",
            "The class folders are numbers in the order of text, as torchvision and Keras sort them: {listed}, ...",
            listed=", ".join(classes[:4]),
        )


def _alike_inside(base: Folder) -> Iterator[Note]:
    """Folders that all hold the same folders may be folds or sources, and those within them the classes."""
    inside = [tuple(folder.filled) for folder in base.filled.values() if not folder.images]
    masked = any(folder.masks() for folder in base.filled.values())
    if not masked and len(inside) == len(base.filled) > 1 and len(inside[0]) > 1 and len(set(inside)) == 1:
        yield note(
            "data_alike_inside",
            "The folders {outer} are taken for the classes, though each holds the same folders {inner}: where those "
            "are the classes, give one of the outer folders.",
            outer=", ".join(map(printable, list(base.filled)[:4])),
            inner=", ".join(map(printable, inside[0][:4])),
        )


def _piles(classes: Sequence[str], tables: Sequence[str]) -> Iterator[Note]:
    """Folders such as images_part_1 and images_part_2 seldom are classes: one pile of pictures was cut for its size."""
    stems = {re.sub(r"[\s_.-]*\d+$", "", name).casefold() for name in classes}
    if len(stems) == 1 and re.split(r"[\s_.-]", stems.pop())[-1] in _PILES:
        listed = next((table for table in tables if not table.endswith(".txt")), "FILE.csv")
        yield note(
            "data_piles",
            "The folders {names} are taken for the classes, though their names read like parts of one pile of "
            "pictures: where {table} lists the labels, give manifest:FILE.",
            names=", ".join(classes[:4]),
            table=printable(listed),
        )


def _labels_of(folders: Sequence[str], names: Sequence[str]) -> dict[str, int]:
    """The class of each class folder, of whatever Unicode form, and of another case where one class alone fits."""
    exact = {unicodedata.normalize("NFC", name): label for label, name in enumerate(names)}
    folded: dict[str, list[int]] = {}
    for name, label in exact.items():
        folded.setdefault(name.casefold(), []).append(label)
    labels: dict[str, int] = {}
    for folder in folders:
        name = unicodedata.normalize("NFC", folder)
        fitting = [exact[name]] if name in exact else folded.get(name.casefold(), [])
        if len(fitting) == 1:
            labels[folder] = fitting[0]
    return labels
