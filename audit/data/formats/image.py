"""Single images: one file, or a text file that lists some, perhaps with a label that all of them have."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from audit.core.errors import DataError
from audit.core.note import note
from audit.core.registry import data_format
from audit.data.dataset import Dataset, LoadOptions, derive_fingerprint
from audit.data.image_decoding import IMAGE_SUFFIXES
from audit.data.image_files import image_file_dataset, reader_below
from audit.data.image_survey import ImageFile, printable
from audit.data.named_files import NamedFiles
from audit.data.plain_text import read_plain_text

UNKNOWN = -1
"""The label of an image whose class is not said."""
_LISTS = (".txt", ".lst")


@data_format(argument="FILE[=LABEL]", images=True)
def image(source: str, options: LoadOptions) -> Dataset:
    """One image, or those that a .txt file lists, perhaps with their label.

    There is only a test part. The data names no classes but LABEL: the others come from a labels map or from the
    model. Without LABEL every label is `UNKNOWN`, until `labelled_as` sets what the model predicts.

    Args:
        source: FILE or FILE=LABEL; FILE is an image, or a .txt file of paths, one a line, relative to its own folder.
        options: Size, colour and crop of the images; an unreadable one is always an error.

    Raises:
        DataError: When a file is missing or unreadable, or a listed path leads outside the list's folder.
    """
    path, label = _split(source)
    names = _listed(path) if path.suffix.lower() in _LISTS else [path.name]
    files = [ImageFile(name, 0) for name in names]
    dataset = image_file_dataset(
        reader_below(path.parent),
        printable(path.name),
        (label or "unknown",),
        {"test": files},
        options,
        every=True,
    )
    if label:
        return dataset
    unlabelled = replace(dataset.test, labels=np.full(len(dataset.test), UNKNOWN, np.int64))
    return replace(dataset, classes=(), test=unlabelled)


def labelled_as(dataset: Dataset, predictions: NDArray[np.int64]) -> Dataset:
    """Label the test images as the model predicts them, with a note that says so.

    Args:
        dataset: A data set without labels.
        predictions: The predicted class of each test image, int64 (N,).
    """
    named = ", ".join(dict.fromkeys(dataset.classes[label] for label in predictions[:5].tolist()))
    predicted = note(
        "data_predicted",
        "{name} has no label: what the model predicts ({named}) is taken for it, so nothing is said of accuracy and "
        "calibration, and attacks try to change that prediction.",
        name=dataset.name,
        named=named,
    )
    fingerprint = derive_fingerprint(dataset.test.fingerprint, "predicted", *predictions.tolist())
    test = replace(dataset.test, labels=predictions, fingerprint=fingerprint)
    return replace(dataset, test=test, notes=(*dataset.notes, predicted))


def _split(source: str) -> tuple[Path, str]:
    """The file and its label, "" without one; a file whose name has an equals sign is itself."""
    before, equals, after = source.rpartition("=")
    path, label = (Path(before), after.strip()) if equals and not Path(source).exists() else (Path(source), "")
    if not path.is_file():
        raise DataError(f"No file {str(path)!r}; give a picture, or a .txt file of their paths: image:FILE=LABEL.")
    if path.suffix.lower() not in (*IMAGE_SUFFIXES, *_LISTS, ""):
        raise DataError(f"{printable(path.name)} is no picture and no .txt list by its ending; give image:FILE=LABEL.")
    return path, label


def _listed(path: Path) -> list[str]:
    try:
        lines = [line.strip() for line in read_plain_text(path).splitlines()]
    except (OSError, UnicodeDecodeError) as fault:
        raise DataError(f"{printable(path.name)} cannot be read as UTF-8 text; list one path a line.") from fault
    names = list(dict.fromkeys(line for line in lines if line))
    if not names:
        raise DataError(f"{printable(path.name)} names no pictures; one path a line was expected.")
    files = NamedFiles(path.parent, printable(path.name))
    return list(dict.fromkeys(files.find(name, printable(path.name)) for name in names))
