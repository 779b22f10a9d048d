"""Classes that are numbers: which output of the model each of them is."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace

import numpy as np
import torch
from scipy.special import bdtrc

from audit.config import ModelConfig, RunConfig
from audit.core.errors import AuditError, ModelError
from audit.core.note import Note, note
from audit.data.dataset import Dataset
from audit.data.label_map import renumbered
from audit.data.sampling import balanced_order
from audit.models.load import load_model, read_weights
from audit.models.loaded import LoadedModel
from audit.models.under_test import ModelUnderTest

_COMPARED = 200
_NEEDED_GAIN = 0.1
_SIGNIFICANCE = 0.01
_MOST_TRIED = 3
_BY_COUNTING = ("data_from_one", "data_no_image")
"""Notes on how numbers were counted before the model was asked."""


def load_with_labels(
    model: ModelConfig, dataset: Dataset, config: RunConfig, device: torch.device, *, named: bool
) -> tuple[LoadedModel, Dataset]:
    """Load a model, with the labels of the data counted as its outputs are where the labels are numbers.

    Labels 1 to 12 are the outputs 0 to 11 of a model of twelve outputs, and the outputs 1 to 12 of a model of
    thirteen; labels 0 to 990 are outputs of a model of a thousand. Class folders such as 0 to 11, which sort as text,
    are put in the order of the numbers in their names, as timm sorts them, where the model is far oftener right so.

    Args:
        model: The [model] table, with weights.
        dataset: The images.
        config: The configuration of the run.
        device: Where the model computes.
        named: Whether the outputs have names, which say it all.

    Returns:
        The model, and the images with their labels renumbered and a note where they were.

    Raises:
        ModelError: The model does not load for the classes, however they are counted.
    """
    others = [] if named else list(_other_numberings(dataset))
    try:
        loaded = _loaded(model, dataset, config, device, tried=bool(others))
    except ModelError as fault:
        for other in (*others, *_padded(model, dataset, named=named)):
            try:
                return _loaded(model, other, config, device, tried=True), other
            except ModelError:
                continue
        raise fault from None
    text_order = tuple(sorted(dataset.classes))
    if named or dataset.classes != text_order or _natural_order(dataset) == text_order:
        return loaded, dataset
    return loaded, _in_better_order(wrap_loaded(model, dataset, loaded, device), dataset, config.seed)


def wrap_loaded(model: ModelConfig, dataset: Dataset, loaded: LoadedModel, device: torch.device) -> ModelUnderTest:
    """A loaded model with its normalisation.

    Args:
        model: The [model] table.
        dataset: The images, whose classes are the outputs.
        loaded: The model.
        device: Where it computes.
    """
    return ModelUnderTest(
        loaded.module,
        classes=dataset.classes,
        input_shape=dataset.shape,
        mean=model.mean,
        std=model.std,
        device=device,
    )


def _loaded(
    model: ModelConfig, dataset: Dataset, config: RunConfig, device: torch.device, *, tried: bool
) -> LoadedModel:
    """The model for the classes of a data set; run once where other classes would be `tried` after a failure."""
    loaded = load_model(model, classes=dataset.classes, input_shape=dataset.shape, device=device, seed=config.seed)
    if tried:
        wrap_loaded(model, dataset, loaded, device)
    return loaded


def _other_numberings(dataset: Dataset) -> Iterator[Dataset]:
    """The data with its numbers counted from 0, from 1, and in their order; without the way it has."""
    if not dataset.classes or not _are_numbers(dataset):
        return
    values = [int(name) for name in dataset.classes]
    splits = [dataset.test, *([dataset.train] if dataset.train else [])]
    labels = np.unique(np.concatenate([split.labels for split in splits]))
    present = sorted(values[label] for label in labels.tolist() if label >= 0)
    if len(present) < 2 or present[-1] >= 100_000:
        return
    ranks = {value: rank for rank, value in enumerate(present)}
    forms: list[tuple[tuple[str, ...], Mapping[int, int], Note]] = [
        (
            tuple(map(str, range(present[-1] + 1))),
            {value: value for value in present},
            note(
                "data_counted_from_zero",
                "The model has {outputs} outputs: each label is taken for the output of its number, counted from 0; no "
                "image has the label {absent}.",
                outputs=present[-1] + 1,
                absent=", ".join(str(n) for n in range(present[-1] + 1) if n not in ranks)[:40] or "-",
            ),
        ),
        (
            tuple(map(str, present)),
            ranks,
            note(
                "data_counted_in_order",
                "The model has {outputs} outputs, as many as there are labels: they are taken in the order of "
                "counting, {listed}, ... for its outputs 0, 1, 2, ...",
                outputs=len(present),
                listed=", ".join(map(str, present[:3])),
            ),
        ),
    ]
    for classes, outputs, said in forms:
        if classes != dataset.classes:
            moved = renumbered(dataset, [outputs.get(value, 0) for value in values], classes, "the model's outputs")
            notes = [item for item in dataset.notes if item.key not in _BY_COUNTING]
            yield replace(moved, notes=(*notes, said))


def _padded(model: ModelConfig, dataset: Dataset, *, named: bool) -> Iterator[Dataset]:
    """The data with as many numbered classes as the model may have outputs, where its numbers count from 0."""
    if named or not dataset.classes or not _are_numbers(dataset):
        return
    values = [int(name) for name in dataset.classes]
    if min(values) == 1:  # of more outputs than labels, 1 may be the first or the second
        return
    for count in _possible_outputs(model, above=max(values) + 1):
        padded = renumbered(dataset, values, tuple(map(str, range(count))), "the model's outputs")
        said = note(
            "data_some_outputs",
            "The model has {outputs} outputs and the data labels up to {highest}: each label is taken for the output "
            "of its number, counted from 0.",
            outputs=count,
            highest=max(values),
        )
        yield replace(padded, notes=(*dataset.notes, said))


def _possible_outputs(model: ModelConfig, *, above: int) -> list[int]:
    """Numbers of outputs that a checkpoint may have: sizes that one layer alone puts out, the last of them first."""
    if model.weights is None:
        return []
    try:
        state = read_weights(model.weights, model.trust).state or {}
    except AuditError:  # the failure to load that led here says more
        return []
    sizes = [int(tensor.shape[0]) for tensor in state.values() if tensor.ndim > 1]
    once = [size for size in dict.fromkeys(reversed(sizes)) if sizes.count(size) == 1 and size > above]
    return once[:_MOST_TRIED]


def _are_numbers(dataset: Dataset) -> bool:
    numbers = [int(name) for name in dataset.classes if name.isascii() and name.isdigit() and len(name) < 7]
    return len(set(numbers)) == len(dataset.classes)


def _natural_order(dataset: Dataset) -> tuple[str, ...]:
    """The classes as timm sorts them: by the numbers in their names, whatever the case."""
    names = [(re.split(r"(\d+)", name.lower()), name) for name in dataset.classes]
    keys = {name: [(0, int(part), "") if part.isdecimal() else (1, 0, part) for part in parts] for parts, name in names}
    return tuple(sorted(dataset.classes, key=lambda name: keys[name]))


def _in_better_order(model: ModelUnderTest, dataset: Dataset, seed: int) -> Dataset:
    """The data with its classes in natural order where the model is far oftener right so, else as it is."""
    batch = dataset.test.batch(balanced_order(dataset.test, seed)[:_COMPARED])
    ordered = _natural_order(dataset)
    outputs = [ordered.index(name) for name in dataset.classes]
    predictions = model.predictions(batch.images).cpu().numpy()
    as_text = predictions == batch.labels.numpy()
    as_numbers = predictions == np.array(outputs)[batch.labels.numpy()]
    better, worse = int((as_numbers & ~as_text).sum()), int((as_text & ~as_numbers).sum())
    gain = float(as_numbers.mean() - as_text.mean())
    if gain < _NEEDED_GAIN or bdtrc(better - 1, better + worse, 0.5) > _SIGNIFICANCE:
        return dataset
    said = note(
        "data_number_order",
        "The model knows the classes in the order of the numbers in their names, whatever the case, as timm sorts them "
        "({numbers} of {images} images right), and not of text ({text} right): labels follow it.",
        numbers=int(as_numbers.sum()),
        text=int(as_text.sum()),
        images=len(batch),
    )
    notes = tuple(item for item in dataset.notes if item.key != "data_text_order")
    return replace(renumbered(dataset, outputs, ordered, "the numbers in their names"), notes=(*notes, said))
