"""Single pictures: one file, or a text file that lists some, perhaps with the one label they share."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from audit.core.errors import DataError
from audit.data.dataset import Dataset, derive_fingerprint
from audit.data.image_decoding import ENDINGS
from audit.data.image_files import ImageFile, image_file_dataset, printable, reader_below
from audit.data.options import LoadOptions

UNKNOWN = -1
"""The label of a picture of which nobody says what it shows."""
_LISTS = (".txt", ".lst")


def load_image(place: str, wish: LoadOptions) -> Dataset:
    """FILE or FILE=LABEL; FILE is a picture, or a .txt file of paths, one a line, relative to its own folder.

    There is only a test part. The data names no classes but LABEL: the others come from a labels map or from the
    model. Without LABEL every label is `UNKNOWN`, until `labelled_as` says what the model predicts. Raises DataError.
    """
    path, label = _split(place)
    names = _listed(path) if path.suffix.lower() in _LISTS else [path.name]
    files = [ImageFile(name, 0) for name in names]
    dataset = image_file_dataset(
        reader_below(path.parent),
        printable(path.name),
        (label or "unknown",),
        {"test": files},
        replace(wish, strict=True),
    )
    if label:
        return dataset
    unlabelled = replace(dataset.test, labels=np.full(len(dataset.test), UNKNOWN, np.int64))
    return replace(dataset, classes=(), test=unlabelled)


def labelled_as(dataset: Dataset, predictions: NDArray[np.int64]) -> Dataset:
    """`dataset` with its test images labelled as the model predicts them, int64 (N,), and a note that says so."""
    named = ", ".join(dict.fromkeys(dataset.classes[label] for label in predictions[:5].tolist()))
    note = (
        f"{dataset.name} has no label: what the model predicts ({named}) is taken for it, so nothing is said of "
        "accuracy and calibration, and attacks try to change that prediction."
    )
    fingerprint = derive_fingerprint(dataset.test.fingerprint, "predicted", *predictions.tolist())
    test = replace(dataset.test, labels=predictions, fingerprint=fingerprint)
    return replace(dataset, test=test, notes=(*dataset.notes, note))


def _split(place: str) -> tuple[Path, str]:
    """The file and its label, "" without one; a file whose name has an equals sign is itself."""
    before, equals, after = place.rpartition("=")
    path, label = (Path(before), after.strip()) if equals and not Path(place).exists() else (Path(place), "")
    if not path.is_file():
        raise DataError(f"No file {str(path)!r}; give a picture, or a .txt file of their paths: image:FILE=LABEL.")
    if path.suffix.lower() not in (*ENDINGS, *_LISTS):
        raise DataError(f"{printable(path.name)} is no picture and no .txt list by its ending; give image:FILE=LABEL.")
    return path, label


def _listed(path: Path) -> list[str]:
    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines()]
    except (OSError, UnicodeDecodeError) as fault:
        raise DataError(f"{printable(path.name)} cannot be read as UTF-8 text; list one path a line.") from fault
    names = list(dict.fromkeys(line for line in lines if line))
    if not names:
        raise DataError(f"{printable(path.name)} names no pictures; one path a line was expected.")
    for name in names:
        if name.startswith(("/", "\\")) or ".." in name.replace("\\", "/").split("/") or "\0" in name:
            raise DataError(f"{printable(path.name)}: {printable(name)!r} leads outside the list's own folder.")
    return names
