"""Completes a configuration by what a checkpoint says of itself, in its header or in the files of its folder."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from safetensors import SafetensorError, safe_open

from audit.config import IMAGE_SIZES, DataConfig, ModelConfig
from audit.core.errors import DataError, ModelError
from audit.data.dataset import Dataset
from audit.data.label_map import align_to_model, knows_all
from audit.models.detectors.build import names_a_detector
from audit.models.files import basename
from audit.models.formats.hf_config import is_folder, read_preprocessing
from audit.models.formats.onnx_header import header_of


def apply_architecture(model: ModelConfig, classes: Sequence[str], *, detector: bool = False) -> ModelConfig:
    """The configuration with the header's architecture, mean and std where it names none.

    A file without such a header, or of another format, changes nothing.

    Args:
        model: The configuration of the model.
        classes: The classes of the data, in order.
        detector: Whether a detector is wanted, which has no mean and std outside.

    Raises:
        ModelError: The header names other classes, or a detector where a classifier is wanted.
    """
    if is_folder(model.weights) and model.mean is None and model.std is None:
        preprocessing = read_preprocessing(str(model.weights))
        return model.model_copy(update={"mean": preprocessing.mean, "std": preprocessing.std})
    header = read_metadata(model.weights)
    if "architecture" not in header:
        return model
    trained_on = json.loads(header["classes"])
    unnamed = list(trained_on) == [str(index) for index in range(len(classes))]  # `audit.train(classes=10)`
    if list(trained_on) != list(classes) and not unnamed:
        raise ModelError(
            f"{Path(str(model.weights)).name} was trained on the classes {', '.join(trained_on)}, where the data has "
            f"{', '.join(classes)}. Give the data it was trained for."
        )
    update: dict[str, object] = {}
    if model.architecture == "auto":
        update["architecture"] = header["architecture"]
        if not detector and names_a_detector(header["architecture"]):
            raise ModelError(
                f"{Path(str(model.weights)).name} holds a detector ({header['architecture']}), and a classifier was "
                "expected: `audit run --task detection` takes it, with images that have boxes."
            )
    if detector:
        return model.model_copy(update=update)
    if model.mean is None and model.std is None:
        update |= {name: tuple(json.loads(header[name])) for name in ("mean", "std")}
    return model.model_copy(update=update)


def apply_input_format(data: DataConfig, model: ModelConfig) -> DataConfig:
    """The configuration with the size, the colour and the preparation that the checkpoint names, where it names none.

    Args:
        data: The configuration of the data.
        model: The configuration of the model, whose weights may have a header or lie in a Hugging Face folder.
    """
    if is_folder(model.weights):
        stated = read_preprocessing(str(model.weights))
        shape = {"image_size": data.image_size or stated.size, "grayscale": data.grayscale or stated.grey}
        return _completed(data, _preparation_of(model.weights)).model_copy(update=shape)
    header, update = read_metadata(model.weights), dict[str, object]()
    channels, height, width = json.loads(header.get("input_shape", "[0, 0, 0]"))
    if channels == 1:
        update["grayscale"] = True
    if data.image_size is None and height == width and height in IMAGE_SIZES:
        update["image_size"] = height
    preparation = {name: value for name, value in _preparation_of(model.weights).items() if name not in _TURNS}
    return _completed(data, preparation).model_copy(update=update)


def align_labels(dataset: Dataset, data: DataConfig, model: ModelConfig) -> Dataset:
    """The dataset with its labels in the order of the model's outputs.

    A Hugging Face folder and the header of a checkpoint written here name that order, unless the configuration has a
    map of labels.

    Args:
        dataset: The images.
        data: The configuration of the data.
        model: The configuration of the model.

    Raises:
        DataError: Nothing names the classes of single images.
    """
    name, outputs = basename(model.weights or ""), output_names(data, model)
    known = knows_all(dataset.classes, outputs) or _are_other_numbers(dataset.classes, outputs, model)
    if is_folder(model.weights) or len(dataset.classes) < 2 or known:
        dataset = align_to_model(dataset, outputs, name)
    if len(dataset.classes) >= 2:
        return dataset
    if outputs:
        raise DataError(f"{name} knows no class {dataset.classes[0]!r}; one of {', '.join(outputs)} was expected.")
    raise DataError(
        f"{dataset.name} names no classes, and the model's outputs have no names: list them in the "
        "model's order in a file and give it with --labels-map."
    )


def _are_other_numbers(classes: Sequence[str], outputs: Sequence[str], model: ModelConfig) -> bool:
    """Whether the outputs are called 0, 1, 2, ... after data of such classes, as digits are, and these are others.

    Numbers that stand for no names (`numbered_header`) say nothing of the data, nor do classes that end in them.
    """
    if list(outputs) != list(map(str, range(len(classes)))) or _NUMBERED in read_metadata(model.weights):
        return False
    counted = all((end := re.search(r"[0-9]+$", name)) and int(end[0]) == at for at, name in enumerate(classes))
    return not counted and not set(outputs) & set(classes)


def numbered_header(classes: Sequence[str]) -> dict[str, str]:
    """What a header says of outputs that were counted, as by `audit.train(classes=10)`, and not named by data.

    Args:
        classes: The names of the outputs.

    Returns:
        An entry for names that are 0, 1, 2, ...; none for others.
    """
    return {_NUMBERED: "true"} if list(classes) == list(map(str, range(len(classes)))) else {}


def output_names(data: DataConfig, model: ModelConfig) -> tuple[str, ...]:
    """The names that a model gives its outputs; empty where it has none, or a map of labels goes over them.

    Args:
        data: The configuration of the data.
        model: The configuration of the model.
    """
    if data.labels_map is not None:
        return ()
    if is_folder(model.weights):
        return read_preprocessing(str(model.weights)).classes
    return tuple(json.loads(read_metadata(model.weights).get("classes", "[]")))


_NUMBERED = "numbered"
_TURNS = ("rotate", "flip")
_PREPARATION = ("crop", *_TURNS, "interpolation", "transparency", "pixel_range")
"""Keys of [data] that a checkpoint written here carries: how the pictures it was audited on were prepared."""


def preparation_header(data: DataConfig) -> dict[str, str]:
    """How images were prepared, as entries of a checkpoint's header.

    Args:
        data: The configuration of the data.

    Returns:
        JSON by name of the key, for the keys that differ from their default.
    """
    values = {name: getattr(data, name) for name in _PREPARATION}
    return {name: json.dumps(value) for name, value in values.items() if value != getattr(DataConfig(), name)}


def apply_image_preparation(data: DataConfig, weights: str | None) -> DataConfig:
    """The configuration with all of the preparation that a checkpoint states, where it sets none itself.

    Args:
        data: The configuration of the data.
        weights: The checkpoint; None for none.
    """
    return _completed(data, _preparation_of(weights))


def _preparation_of(weights: str | None) -> dict[str, object]:
    """What a checkpoint's header, or the files of its folder, say of `_PREPARATION`."""
    if is_folder(weights):
        stated = read_preprocessing(str(weights))
        named = {"crop": stated.crop, "interpolation": stated.interpolation}
        return {name: value for name, value in named.items() if value is not None}
    header = read_metadata(weights)
    return {name: json.loads(header[name]) for name in _PREPARATION if name in header}


def _completed(data: DataConfig, stated: Mapping[str, object]) -> DataConfig:
    """`data` with what is stated, where it says nothing itself."""
    unset = {
        name: value
        for name, value in stated.items()
        if name not in data.model_fields_set or getattr(data, name) is None
    }
    return DataConfig.model_validate(data.model_dump(exclude_unset=True) | unset) if unset else data


def read_metadata(weights: str | None) -> dict[str, str]:
    """The header of a checkpoint written by this package.

    Args:
        weights: The checkpoint; None for none.

    Returns:
        JSON by name of the key; empty for any other file.
    """
    if weights is not None and Path(weights).suffix == ".onnx":
        return header_of(Path(weights))
    if weights is None or Path(weights).suffix != ".safetensors":
        return {}
    try:
        with safe_open(weights, framework="np") as file:
            return file.metadata() or {}
    except (SafetensorError, OSError):
        # The reader of the format says what is wrong with the file.
        return {}
