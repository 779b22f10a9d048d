"""Class labels renumbered to the order of the model's outputs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from audit.core.errors import DataError, nearest
from audit.core.note import note
from audit.data.dataset import Dataset, Split, derive_fingerprint


def remap_labels(dataset: Dataset, map_file: str) -> Dataset:
    """Renumber the labels of a data set as a file says.

    Args:
        dataset: The data set.
        map_file: A text file with a class name a line in the model's order; or JSON: a list of such names, or an
            object from the data's class name to the model's output or from the output to the name. Raises DataError
            when it cannot be read or has no output for a class.
    """
    name = Path(map_file).name
    return _renumbered(dataset, *_outputs_of(dataset.classes, _read(Path(map_file)), name), name)


def align_to_model(dataset: Dataset, names: tuple[str, ...], model: str) -> Dataset:
    """Renumber the labels of a data set as the model's outputs are named.

    Args:
        dataset: The data set.
        names: The names of the model's outputs; empty when it names none.
        model: The model's file name, for the note.

    Returns:
        The renumbered data set; as it is, with a note, when its classes have other names.
    """
    if not names or names == dataset.classes:
        return dataset
    if set(dataset.classes) <= set(names) or _are_numbers(dataset.classes, len(names)):
        return _renumbered(dataset, *_outputs_of(dataset.classes, list(names), model), model)
    assumed = note(
        "data_names_differ",
        "{model} calls its outputs {own}, ... and the data its classes {theirs}, ...: they are taken to be in the same "
        "order. A labels map says otherwise.",
        model=model,
        own=", ".join(names[:3]),
        theirs=", ".join(dataset.classes[:3]),
    )
    return replace(dataset, notes=(*dataset.notes, assumed))


def class_names(map_file: str) -> tuple[str, ...]:
    """The class names in the model's order that a labels map lists.

    Args:
        map_file: The file, as for `remap_labels`. Raises DataError when it cannot be read.
    """
    return _names(_read(Path(map_file)), Path(map_file).name)


def _renumbered(dataset: Dataset, outputs: list[int], names: tuple[str, ...], where: str) -> Dataset:
    moved = [f"{old} {i} to {outputs[i]}" for i, old in enumerate(dataset.classes) if i != outputs[i]]
    renumbered = note(
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
        notes=(*dataset.notes, *([renumbered] if moved else [])),
    )


def _read(path: Path) -> Any:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as fault:
        reason = fault.strerror if isinstance(fault, OSError) else "it is not UTF-8 text"
        raise DataError(f"Cannot read the labels map {str(path)!r}: {reason}.") from fault
    if path.suffix.lower() != ".json":
        return [line.strip() for line in text.splitlines() if line.strip()]
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as fault:
        raise DataError(f"{path.name} is not JSON ({str(fault)[:80]}).") from fault


def _are_numbers(classes: tuple[str, ...], outputs: int) -> bool:
    return all(name.isdigit() and int(name) < outputs for name in classes)


def _outputs_of(classes: tuple[str, ...], content: Any, name: str) -> tuple[list[int], tuple[str, ...]]:
    """The model's output for each of the data's classes, and the name of every output."""
    names = _names(content, name)
    if set(classes) <= set(names):
        return [names.index(label) for label in classes], names
    if _are_numbers(classes, len(names)):
        return [int(label) for label in classes], names
    missing = sorted(set(classes) - set(names))
    unused = [label for label in names if label not in classes]
    raise DataError(
        f"{name} has no place for the class {missing[0]!r} ({len(missing)} such).{nearest(missing[0], unused)} "
        f"It names {', '.join(names[:6])}. List every class of the data in the model's order."
    )


def _names(content: Any, name: str) -> tuple[str, ...]:
    outputs = _by_output(content, name)
    if sorted(outputs) != list(range(len(outputs))) or len(outputs) < 2:
        raise DataError(
            f"{name} numbers the model's outputs {sorted(outputs)[:6]}; 0, 1, 2, ... without a gap were expected."
        )
    return tuple(outputs[i] for i in range(len(outputs)))


def _by_output(content: Any, name: str) -> dict[int, str]:
    """The name of each output."""
    if isinstance(content, list) and all(isinstance(label, str) for label in content):
        if len(set(content)) == len(content):
            return dict(enumerate(content))
    if isinstance(content, Mapping) and all(isinstance(v, str) and str(k).isdigit() for k, v in content.items()):
        return {int(k): v for k, v in content.items()}
    if isinstance(content, Mapping) and all(type(v) is int for v in content.values()):
        swapped = {v: str(k) for k, v in content.items()}
        if len(swapped) == len(content):
            return swapped
    raise DataError(
        f"{name} is no labels map; different class names, one a line, a JSON list of them, or a JSON object from name "
        "to number was expected."
    )


def _with_labels(split: Split, outputs: list[int]) -> Split:
    return replace(
        split,
        labels=np.where(split.labels < 0, split.labels, np.array([*outputs, 0], dtype=np.int64)[split.labels]),
        fingerprint=derive_fingerprint(split.fingerprint, "labels", *outputs),
    )
