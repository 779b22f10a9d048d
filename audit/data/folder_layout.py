"""The classes and splits of a folder or an archive, inferred from the names of its files."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from audit.core.errors import DataError
from audit.core.note import Note, note
from audit.data.image_decoding import IMAGE_SUFFIXES
from audit.data.image_survey import ImageFile, printable

TRAIN = ("train", "training")
TEST = ("test", "testing")
VALIDATION = ("validation", "valid", "val", "eval")
_IGNORED = ("__MACOSX", "__pycache__")


@dataclass(frozen=True)
class FolderLayout:
    """What the names of the files say.

    Attributes:
        base: The folder that the files' names are relative to; empty, or ending in a slash.
        classes: Class names in label order.
        files_by_split: The files of "test" and perhaps of "train".
        notes: Sentences about what was ignored or is missing.
    """

    base: str
    classes: tuple[str, ...]
    files_by_split: dict[str, list[ImageFile]]
    notes: tuple[Note, ...]


def infer_layout(entries: Sequence[str], source: str) -> FolderLayout:
    """One class per folder, sorted by name as torchvision and Keras sort them; images at any depth below it.

    With train and test folders (validation, where there is no test) each gives its part; without them everything is
    the test part.

    Args:
        entries: Relative paths with forward slashes; those of folders end in one.
        source: Name of the folder or archive, for errors.

    Raises:
        DataError: For an empty class folder, a test class that the training part lacks, fewer than two classes, or a
            training folder without a test folder.
    """
    visible = sorted(entry for entry in entries if _is_visible(entry))
    base = _below_wrappers(visible)
    inside = [entry[len(base) :] for entry in visible if entry.startswith(base) and entry != base]
    folders = _split_folders(inside)
    if "test" not in folders:
        raise DataError(f"{source!r} has a training folder alone; a test or validation folder beside it was expected.")
    classes = _classes(inside, folders, source)
    missing = [name for name in classes if name not in _folders(inside, folders["test"])]
    files_by_split = {split: _files(inside, folder, classes) for split, folder in folders.items()}
    notes = (
        *_found_in(base),
        *_without_test(missing),
        *_unused_folders(inside, folders),
        *_other_files(inside),
    )
    return FolderLayout(base, classes, files_by_split, notes)


def split_of(name: str) -> str | None:
    """The part that a folder or a split of this name belongs to.

    Args:
        name: "train", "Testing", "val", ...

    Returns:
        "train", "test" (for a validation part too), or None for a name of neither.
    """
    word = name.strip().lower()
    return "train" if word in TRAIN else "test" if word in (*TEST, *VALIDATION) else None


def _below_wrappers(entries: Sequence[str]) -> str:
    """Archives often unpack to one folder that holds the rest."""
    base = ""
    while True:
        names = _folders(entries, base)
        images = any(_is_image(e) and "/" not in e[len(base) :] for e in entries if e.startswith(base))
        if images or len(names) != 1 or split_of(names[0]) or not _folders(entries, f"{base}{names[0]}/"):
            return base
        base = f"{base}{names[0]}/"


def _split_folders(entries: Sequence[str]) -> dict[str, str]:
    by_name = {name.lower(): f"{name}/" for name in _folders(entries, "")}
    train = next((by_name[name] for name in TRAIN if name in by_name), None)
    test = next((by_name[name] for name in (*TEST, *VALIDATION) if name in by_name), None)
    if train is None and test is None:
        return {"test": ""}
    return {split: folder for split, folder in (("test", test), ("train", train)) if folder}


def _classes(entries: Sequence[str], folders: dict[str, str], source: str) -> tuple[str, ...]:
    names = {split: _folders(entries, folder) for split, folder in folders.items()}
    reference = names.get("train", names["test"])
    if len(reference) < 2:
        raise DataError(
            f"{folders.get('train', folders['test']).rstrip('/') or source!r} holds {len(reference)} class folders; at "
            "least two, each with images of one class, were expected."
        )
    unknown = sorted(set(names["test"]) - set(reference))
    if unknown:
        raise DataError(
            f"The test part has a class {printable(unknown[0])!r} that the training part lacks ({len(unknown)} such); "
            "the same class folders were expected in both."
        )
    return tuple(printable(name) for name in reference)


def _files(entries: Sequence[str], folder: str, classes: Sequence[str]) -> list[ImageFile]:
    """The images below `folder`. Raises DataError for a class folder that has none."""
    names = _folders(entries, folder)
    labels = {name: classes.index(printable(name)) for name in names}
    files = [
        ImageFile(entry, labels[entry[len(folder) :].split("/", 1)[0]])
        for entry in entries
        if entry.startswith(folder) and _is_image(entry) and "/" in entry[len(folder) :]
    ]
    empty = sorted(set(labels.values()) - {file.label for file in files})
    if empty:
        raise DataError(
            f"The class folder {printable(folder + classes[empty[0]])!r} holds no images; put "
            f"{', '.join(sorted(IMAGE_SUFFIXES)[:6])} ... files there or remove it."
        )
    return files


def _found_in(base: str) -> Iterator[Note]:
    if base:
        yield note("data_found_in", "The classes were found in {folder}.", folder=printable(base.rstrip("/")))


def _without_test(missing: Sequence[str]) -> Iterator[Note]:
    if missing:
        listed = ", ".join(missing[:5])
        yield note("data_no_test", "No test images of {count} classes: {listed}.", count=len(missing), listed=listed)


def _unused_folders(entries: Sequence[str], folders: dict[str, str]) -> Iterator[Note]:
    if folders["test"] == "":
        yield note("data_all_test", "The folder has no train and test parts: every image is used to test.")
    for name in _folders(entries, "") if folders["test"] else ():
        if f"{name}/" not in folders.values():
            yield note(
                "data_folder",
                "The folder '{name}' is not used: the test part is '{used}'.",
                name=printable(name),
                used=folders["test"].rstrip("/"),
            )


def _other_files(entries: Sequence[str]) -> Iterator[Note]:
    endings = Counter(
        PurePosixPath(e).suffix.lower() or "no ending" for e in entries if not e.endswith("/") and not _is_image(e)
    )
    if endings:
        listed = ", ".join(f"{n} {printable(ending)}" for ending, n in endings.most_common(4))
        yield note(
            "data_aside",
            "{count} files that are no images by their ending were left aside: {listed}.",
            count=sum(endings.values()),
            listed=listed,
        )


def _folders(entries: Sequence[str], base: str) -> list[str]:
    """The folders directly below `base`, sorted."""
    names = {e[len(base) :].split("/", 1)[0] for e in entries if e.startswith(base) and "/" in e[len(base) :]}
    return sorted(names)


def _is_image(entry: str) -> bool:
    return entry[entry.rfind(".") :].lower() in IMAGE_SUFFIXES if "." in entry else False


def _is_visible(entry: str) -> bool:
    return not any(step.startswith(".") or step in _IGNORED for step in entry.rstrip("/").split("/"))
