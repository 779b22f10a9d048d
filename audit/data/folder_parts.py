"""Which folders of a tree are the parts of a data set, and which are its classes."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field

from audit.core.errors import DataError
from audit.data.folder_tree import PICTURE_FOLDERS, Folder
from audit.data.image_survey import printable
from audit.data.split_names import SplitPart, by_rank, is_part_word, part_of, part_within


@dataclass(frozen=True)
class Parts:
    """The parts of a data set.

    Attributes:
        test: The folder of the class folders to test on; None where there is none.
        train: The folder of the class folders to train on; None where there is none.
        unused: Folders that are no part and no class of the chosen ones.
        loose: Parts by their names that hold pictures and no class folders.
        doubtful: Class folders that have the name of a part.
        inside_classes: The folder of each part within the class folders, where the parts lie inside the classes.
    """

    test: Folder | None
    train: Folder | None
    unused: tuple[Folder, ...] = ()
    loose: tuple[Folder, ...] = ()
    doubtful: tuple[Folder, ...] = ()
    inside_classes: Mapping[str, str] = field(default_factory=dict)


def base_of(top: Folder) -> Folder:
    """The folder that holds the parts or the classes: inside those that hold nothing but it, as archives unpack.

    A folder with a training and a test part is the base also where other folders lie beside it.

    Args:
        top: The outermost folder.

    Raises:
        DataError: Several folders side by side hold a training and a test part.
    """
    base = _without_wrappers(top)
    if find_parts(base).test is not base:
        return base
    inner = [_without_wrappers(folder) for folder in base.filled.values()]
    divided = [folder for folder in inner if (parts := find_parts(folder)).test and parts.train]
    if len(divided) > 1:
        raise DataError(
            f"The folders {', '.join(printable(folder.path.rstrip('/')) for folder in divided[:4])} each hold a train "
            "and a test part; give one of them alone."
        )
    return divided[0] if divided else base


def _without_wrappers(folder: Folder) -> Folder:
    """The folder inside those that hold nothing but one other folder."""
    while not folder.images and len(folder.filled) == 1:
        (inner,) = folder.filled.values()
        if is_part_word(inner.name) or not inner.folders:
            return folder
        folder = inner
    return folder


def find_parts(base: Folder) -> Parts:
    """The parts directly below a folder; the folder itself is the test part where it holds none.

    A part is a folder of a part's name that holds class folders. Where none of those does, they are classes among
    others, or pictures without classes.

    Args:
        base: The folder without wrappers.
    """
    named = _named_parts(base)
    roots = {name: _class_root(base.folders[name]) for name in named}
    good = [name for name in named if class_folders_of(roots[name])]
    others = [folder for name, folder in base.filled.items() if name not in named]
    loose = tuple(base.folders[name] for name in named if name not in good and base.folders[name].count)
    if not good:
        alike = len(loose) > 1 and len({named[folder.name] for folder in loose}) == 1
        if loose and not others and not alike and not any(part_within(folder.name)[1] for folder in loose):
            first = next((folder for folder in loose if named[folder.name] == "train"), loose[0])
            return Parts(first, None, loose=loose)
        return Parts(base, None, doubtful=loose, inside_classes={} if loose else _inside_classes(base))
    trains = by_rank([name for name in good if named[name] == "train"])
    train = roots[trains[0]] if trains else None
    tests = by_rank([name for name in good if named[name] != "train"])
    test = next(
        (name for name in tests if train is None or _has_classes_of(roots[name], train)), next(iter(tests), None)
    )
    used = [name for name in (test, *trains[:1]) if name]
    unused = tuple(base.folders[name] for name in good if name not in used)
    return Parts(
        roots[test] if test else None,
        train,
        tuple(sorted((*unused, *others), key=lambda folder: folder.path)),
        loose,
    )


def class_folders_of(folder: Folder) -> dict[str, Folder]:
    """The class folders directly in a folder; none where it holds a single folder called "images".

    Args:
        folder: A part.
    """
    filled = list(folder.filled)
    if not filled or (len(filled) == 1 and filled[0].lower() in PICTURE_FOLDERS):
        return {}
    copies = set(copies_in(folder))
    return {n: f for n, f in sorted(folder.folders.items()) if n not in copies and (f.count or part_of(n) is None)}


def copies_in(folder: Folder) -> dict[str, Folder]:
    """The folders that hold all others beside them once more, with pictures of the same names.

    Args:
        folder: A folder of class folders.
    """
    filled = folder.filled
    return {
        name: inner
        for name, inner in filled.items()
        if not inner.images
        and len(filled) > 2
        and set(inner.filled) == filled.keys() - {name}
        and all(_names_in(again) == _names_in(filled[other]) for other, again in inner.filled.items())
    }


def _names_in(folder: Folder) -> list[str]:
    return [path[len(folder.path) :] for path in folder.all_images()]


def _named_parts(base: Folder) -> dict[str, SplitPart]:
    """Folders below `base` that have a part's name: alone, or with words that a training and a test part share."""
    named: dict[str, SplitPart] = {}
    by_rest: dict[tuple[str, ...], dict[str, SplitPart]] = {}
    for name in base.folders:
        part, rest = part_within(name)
        if part is not None and rest:
            by_rest.setdefault(rest, {})[name] = part
        elif part is not None:
            named[name] = part
    for group in by_rest.values():
        if "train" in group.values() and len(set(group.values())) > 1:
            named |= group
    return named


def _has_classes_of(part: Folder, train: Folder) -> bool:
    """Whether the class folders of a part are among those of the training part; test/unknown holds no class."""
    known = {unicodedata.normalize("NFC", name).casefold() for name in train.folders}
    return all(unicodedata.normalize("NFC", name).casefold() in known for name in part.filled)


def _class_root(part: Folder) -> Folder:
    """A part without folders that hold nothing but one other folder of folders, as train/train."""
    while not part.images and len(part.filled) == 1:
        (inner,) = part.filled.values()
        if not inner.filled:
            return part if part_of(inner.name) is None else inner
        part = inner
    return part


def _inside_classes(base: Folder) -> dict[str, str]:
    """The names of the parts inside every class folder: cat/train, cat/test, dog/train, dog/test."""
    classes = list(base.filled.values())
    if len(classes) < 2 or any(folder.images for folder in classes):
        return {}
    names = {name for folder in classes for name in folder.filled}
    parts = {name: part_of(name) for name in names}
    if None in parts.values() or not all(any(parts[name] == "train" for name in folder.filled) for folder in classes):
        return {}
    train = by_rank([name for name, part in parts.items() if part == "train"])
    test = by_rank([name for name, part in parts.items() if part != "train"])
    return {"train": train[0], "test": test[0]} if test else {}
