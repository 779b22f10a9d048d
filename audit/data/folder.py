"""A folder of pictures, one sub-folder a class; train and test (or validation) folders above them or not."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from audit.data.dataset import Dataset
from audit.data.picture_files import PictureFile, picture_dataset, printable
from audit.data.pictures import ENDINGS
from audit.data.wish import Wish
from audit.errors import DataError

_TRAIN = ("train", "training")
_TEST = ("test", "testing")
_VALIDATION = ("validation", "valid", "val", "eval")
_IGNORED = ("__MACOSX", "__pycache__")


def load_folder(place: str, wish: Wish) -> Dataset:
    """Class per folder, sorted by name as torchvision and Keras sort them; pictures at any depth below.

    With train and test folders (validation, where there is no test) each gives its part; without them everything
    is the test part. Raises DataError for an empty class, and for a test class that was not trained on.
    """
    root = Path(place)
    if not root.is_dir():
        raise DataError(f"No folder {place!r}; give the one that holds a folder of images for each class.")
    base, notes = _below_wrappers(root)
    parts = _parts(base)
    if "test" not in parts:
        raise DataError(
            f"{root.name!r} has a training folder alone; a test or validation folder beside it was expected."
        )
    classes, more = _classes(parts)
    ignored: Counter[str] = Counter()
    files = {part: list(_files(base, folder, classes, ignored)) for part, folder in parts.items()}
    notes = (*notes, *more, *_unused(base, parts), *_ignored(ignored))
    return picture_dataset(base, printable(root.resolve().name), classes, files, wish, notes)


def _below_wrappers(root: Path) -> tuple[Path, tuple[str, ...]]:
    """Archives often unpack to one folder that holds the rest."""
    base = root
    while not _pictures_in(base) and len(_folders(base)) == 1 and _folders(_folders(base)[0]):
        if _folders(base)[0].name.lower() in (*_TRAIN, *_TEST, *_VALIDATION):
            break
        base = _folders(base)[0]
    return base, () if base == root else (f"The classes were found in {printable(base.relative_to(root).as_posix())}.",)


def _parts(base: Path) -> dict[str, Path]:
    by_name = {folder.name.lower(): folder for folder in _folders(base)}
    train = next((by_name[name] for name in _TRAIN if name in by_name), None)
    test = next((by_name[name] for name in (*_TEST, *_VALIDATION) if name in by_name), None)
    if train is None and test is None:
        return {"test": base}
    return {part: folder for part, folder in (("test", test), ("train", train)) if folder}


def _unused(base: Path, parts: dict[str, Path]) -> Iterator[str]:
    if parts["test"] == base:
        yield "The folder has no train and test parts: every image is used to test."
    for folder in _folders(base) if parts["test"] != base else ():
        if folder not in parts.values():
            yield f"The folder {printable(folder.name)!r} is not used: the test part is {parts['test'].name!r}."


def _classes(parts: dict[str, Path]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    names = {part: [folder.name for folder in _folders(base)] for part, base in parts.items()}
    reference = names.get("train", names["test"])
    where = parts.get("train", parts["test"]).name
    if len(reference) < 2:
        raise DataError(
            f"{printable(where)!r} holds {len(reference)} class folders; at least two, each with images of one class, "
            "were expected."
        )
    unknown = sorted(set(names["test"]) - set(reference))
    if unknown:
        raise DataError(
            f"The test part has a class {printable(unknown[0])!r} that the training part lacks ({len(unknown)} such); "
            "the same class folders were expected in both."
        )
    missing = sorted(set(reference) - set(names["test"]))
    note = f"No test images of {len(missing)} classes: {', '.join(map(printable, missing[:5]))}." if missing else ""
    return tuple(reference), ((note,) if note else ())


def _files(root: Path, base: Path, classes: tuple[str, ...], ignored: Counter[str]) -> Iterator[PictureFile]:
    """Every picture below `base` in a stable order. Raises DataError for a class folder that has none."""
    for label, name in enumerate(classes):
        folder = base / name
        found = 0
        for path in _walk(folder) if folder.is_dir() else ():
            ending = os.path.splitext(path)[1].lower()
            if ending in ENDINGS:
                found += 1
                yield PictureFile(os.path.relpath(path, root).replace(os.sep, "/"), label)
            else:
                ignored[ending or "no ending"] += 1
        if folder.is_dir() and not found:
            raise DataError(
                f"The class folder {printable(folder.relative_to(root).as_posix())!r} holds no images; put "
                f"{', '.join(sorted(ENDINGS)[:6])} ... files there or remove it."
            )


def _walk(folder: Path, above: frozenset[str] = frozenset()) -> Iterator[str]:
    """Paths of files below `folder`, sorted; links are followed, but never in a circle."""
    here = os.path.realpath(folder)
    if here in above:
        return
    for entry in sorted(os.scandir(folder), key=lambda entry: os.fsencode(entry.name)):
        if entry.is_dir() and _counts(entry.name):
            yield from _walk(Path(entry.path), above | {here})
        elif entry.is_file() and not entry.name.startswith("."):
            yield entry.path


def _folders(base: Path) -> list[Path]:
    return sorted((p for p in base.iterdir() if p.is_dir() and _counts(p.name)), key=lambda p: os.fsencode(p.name))


def _pictures_in(base: Path) -> bool:
    return any(path.suffix.lower() in ENDINGS for path in base.iterdir())


def _counts(name: str) -> bool:
    return not name.startswith(".") and name not in _IGNORED


def _ignored(endings: Counter[str]) -> Iterator[str]:
    if endings:
        listed = ", ".join(f"{n} {ending}" for ending, n in endings.most_common(4))
        yield f"{sum(endings.values())} files that are no images by their ending were left aside: {printable(listed)}."
