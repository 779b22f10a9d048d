"""The classes in the model's order, where the data's own order or names are others."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from audit.core.errors import DataError, nearest
from audit.data.dataset import Dataset, Split, derive_fingerprint


def remap_labels(dataset: Dataset, map_file: str) -> Dataset:
    """`dataset` with the labels that the file `map_file` gives its classes.

    The file is text with a class name a line in the model's order; JSON, a list of such names; or a JSON object from
    the data's class name to the model's output, or from the output to the name. Raises DataError when a class has
    no place.
    """
    name = Path(map_file).name
    return _placed(dataset, *_places(dataset.classes, _read(Path(map_file)), name), name)


def align_to_model(dataset: Dataset, names: tuple[str, ...], model: str) -> Dataset:
    """`dataset` with its labels where the outputs of `model`, called `names`, have them; as it is, with a note, when
    its classes have other names."""
    if not names or names == dataset.classes:
        return dataset
    if set(dataset.classes) <= set(names) or all(one.isdigit() and int(one) < len(names) for one in dataset.classes):
        return _placed(dataset, *_places(dataset.classes, list(names), model), model)
    note = (
        f"{model} calls its outputs {', '.join(names[:3])}, ... and the data its classes "
        f"{', '.join(dataset.classes[:3])}, ...: they are taken to be in the same order. A labels map says otherwise."
    )
    return replace(dataset, notes=(*dataset.notes, note))


def class_names(map_file: str) -> tuple[str, ...]:
    """The classes that the file `map_file` lists, in the model's order. Raises DataError."""
    return _names(_read(Path(map_file)), Path(map_file).name)


def _placed(dataset: Dataset, places: list[int], names: tuple[str, ...], where: str) -> Dataset:
    moved = [f"{old} {i} to {places[i]}" for i, old in enumerate(dataset.classes) if i != places[i]]
    note = f"Labels follow {where}: {len(moved)} of {len(places)} classes moved ({', '.join(moved[:5])})."
    return replace(
        dataset,
        classes=names,
        test=_moved(dataset.test, places),
        train=_moved(dataset.train, places) if dataset.train else None,
        notes=(*dataset.notes, *([note] if moved else [])),
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


def _places(classes: tuple[str, ...], given: Any, name: str) -> tuple[list[int], tuple[str, ...]]:
    """The model's output for each of the data's classes, and the name of every output."""
    names = _names(given, name)
    if set(classes) <= set(names):
        return [names.index(one) for one in classes], names
    if all(one.isdigit() and int(one) < len(names) for one in classes):
        return [int(one) for one in classes], names
    lacking = sorted(set(classes) - set(names))
    free = [one for one in names if one not in classes]
    raise DataError(
        f"{name} has no place for the class {lacking[0]!r} ({len(lacking)} such).{nearest(lacking[0], free)} It names "
        f"{', '.join(names[:6])}. List every class of the data in the model's order."
    )


def _names(given: Any, name: str) -> tuple[str, ...]:
    outputs = _outputs(given, name)
    if sorted(outputs) != list(range(len(outputs))) or len(outputs) < 2:
        raise DataError(
            f"{name} numbers the model's outputs {sorted(outputs)[:6]}; 0, 1, 2, ... without a gap were expected."
        )
    return tuple(outputs[i] for i in range(len(outputs)))


def _outputs(given: Any, name: str) -> dict[int, str]:
    if isinstance(given, list) and all(isinstance(one, str) for one in given) and len(set(given)) == len(given):
        return dict(enumerate(given))
    if isinstance(given, Mapping) and all(isinstance(v, str) and str(k).isdigit() for k, v in given.items()):
        return {int(k): v for k, v in given.items()}
    if isinstance(given, Mapping) and all(type(v) is int for v in given.values()):
        swapped = {v: str(k) for k, v in given.items()}
        if len(swapped) == len(given):
            return swapped
    raise DataError(
        f"{name} is no labels map; different class names, one a line, a JSON list of them, or a JSON object from name "
        "to number was expected."
    )


def _moved(split: Split, places: list[int]) -> Split:
    return replace(
        split,
        labels=np.where(split.labels < 0, split.labels, np.array([*places, 0], dtype=np.int64)[split.labels]),
        fingerprint=derive_fingerprint(split.fingerprint, "labels", *places),
    )
