"""Class labels renumbered to the order of the model's outputs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from audit.core.note import note
from audit.data.dataset import Dataset, Split, derive_fingerprint
from audit.data.output_names import no_place, outputs_of, plain_names, read_output_names


def remap_labels(dataset: Dataset, map_file: str) -> Dataset:
    """Renumber the labels of a data set as a file says.

    Args:
        dataset: The data set.
        map_file: A list of the model's classes, as `read_output_names` takes it. Raises DataError when it cannot be
            read, has no output for a class, or several.
    """
    name = Path(map_file).name
    names = read_output_names(Path(map_file))
    outputs = outputs_of(dataset.classes, names, name)
    missing = [label for label, output in zip(dataset.classes, outputs, strict=True) if output is None]
    order = [output for output in outputs if output is not None]
    if missing:
        numbers = _by_number(dataset.classes, len(names.shown))
        if order or numbers is None:
            raise no_place(missing[0], len(missing), names, dataset.classes, name)
        order = numbers
    return renumbered(dataset, order, names.shown, name)


def align_to_model(dataset: Dataset, names: tuple[str, ...], model: str) -> Dataset:
    """Renumber the labels of a data set as the model's outputs are named.

    Args:
        dataset: The data set.
        names: The names of the model's outputs; empty when it names none.
        model: The model's file name, for the note.

    Returns:
        The renumbered data set; as it is, with a note, when its classes have other names.

    Raises:
        DataError: A class fits several outputs; or some classes are called as outputs are, in another order, and
            others are not.
    """
    if not names or names == dataset.classes:
        return dataset
    outputs = outputs_of(dataset.classes, plain_names(names), model)
    known = {number: output for number, output in enumerate(outputs) if output is not None}
    if not known:
        known = dict(enumerate(_by_number(dataset.classes, len(names)) or ()))
    if len(known) == len(dataset.classes):
        return renumbered(dataset, list(known.values()), names, model)
    if any(number != output for number, output in known.items()):
        unknown = [label for number, label in enumerate(dataset.classes) if number not in known]
        raise no_place(unknown[0], len(unknown), plain_names(names), dataset.classes, model)
    assumed = note(
        "data_names_differ",
        "{model} calls its outputs {own}, ... and the data its classes {theirs}, ...: they are taken to be in the same "
        "order. A labels map says otherwise.",
        model=model,
        own=", ".join(names[:3]),
        theirs=", ".join(dataset.classes[:3]),
    )
    return replace(dataset, notes=(*dataset.notes, assumed))


def knows_all(classes: Sequence[str], names: Sequence[str]) -> bool:
    """Whether every class is the name of one output, as it stands.

    Args:
        classes: Class names of the data.
        names: The names of the model's outputs.
    """
    return bool(names) and all(list(names).count(label) == 1 for label in classes)


def class_names(map_file: str) -> tuple[str, ...]:
    """The class names in the model's order that a labels map lists; two outputs may have one name.

    Args:
        map_file: The file, as for `remap_labels`. Raises DataError when it cannot be read.
    """
    return read_output_names(Path(map_file)).shown


def renumbered(dataset: Dataset, outputs: Sequence[int], names: tuple[str, ...], where: str) -> Dataset:
    """A data set whose classes are the outputs of a model.

    Args:
        dataset: The data set.
        outputs: The output of each of its classes.
        names: The name of every output.
        where: Where the order comes from, for the note.
    """
    moved = [f"{old} {i} to {outputs[i]}" for i, old in enumerate(dataset.classes) if i != outputs[i]]
    said = note(
        "data_labels",
        "Labels follow {where}: {moved} of {classes} classes moved ({listed}).",
        where=where,
        moved=len(moved),
        classes=len(outputs),
        listed=", ".join(moved[:5]),
    )
    return replace(
        dataset,
        classes=names,
        test=_with_labels(dataset.test, outputs),
        train=_with_labels(dataset.train, outputs) if dataset.train else None,
        notes=(*dataset.notes, *([said] if moved else [])),
    )


def _by_number(classes: Sequence[str], outputs: int) -> list[int] | None:
    """Classes that are numbers as outputs: from 0, or from 1 where there are as many of them; None for others."""
    if not classes or not all(name.isascii() and name.isdigit() for name in classes):
        return None
    numbers = [int(name) for name in classes]
    if sorted(numbers) == list(range(1, outputs + 1)):
        return [number - 1 for number in numbers]
    return numbers if max(numbers) < outputs and len(set(numbers)) == len(numbers) else None


def _with_labels(split: Split, outputs: Sequence[int]) -> Split:
    return replace(
        split,
        labels=np.where(split.labels < 0, split.labels, np.array([*outputs, 0], dtype=np.int64)[split.labels]),
        fingerprint=derive_fingerprint(split.fingerprint, "labels", *outputs),
    )
