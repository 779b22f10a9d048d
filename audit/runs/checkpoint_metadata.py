"""What a checkpoint says of itself: one written here in its header, a Hugging Face folder in its JSON files."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from safetensors import SafetensorError, safe_open

from audit.config import IMAGE_SIZES, DataConfig, ModelConfig
from audit.core.errors import DataError, ModelError
from audit.data.dataset import Dataset
from audit.data.label_map import align_to_model
from audit.models.files import basename
from audit.models.formats.hf_config import is_folder, read_preprocessing


def apply_architecture(model: ModelConfig, classes: Sequence[str]) -> ModelConfig:
    """`model` with the header's architecture, mean and std where it names none itself.

    Raises ModelError when the header names other classes than the data has. A file without such a header, or
    of another format, changes nothing.
    """
    if is_folder(model.weights) and model.mean is None and model.std is None:
        wanted = read_preprocessing(str(model.weights))
        return model.model_copy(update={"mean": wanted.mean, "std": wanted.std})
    header = read_metadata(model.weights)
    if "architecture" not in header:
        return model
    theirs = json.loads(header["classes"])
    if list(theirs) != list(classes):
        raise ModelError(
            f"{Path(str(model.weights)).name} was trained on the classes {', '.join(theirs)}, where the data has "
            f"{', '.join(classes)}. Give the data it was trained for."
        )
    found: dict[str, object] = {}
    if model.architecture == "auto":
        found["architecture"] = header["architecture"]
    if model.mean is None and model.std is None:
        found |= {name: tuple(json.loads(header[name])) for name in ("mean", "std")}
    return model.model_copy(update=found)


def apply_preprocessing(data: DataConfig, model: ModelConfig) -> DataConfig:
    """`data` in the size, the colour and the crop the checkpoint's header, or a Hugging Face folder, names, where it
    names none itself."""
    if is_folder(model.weights):
        return data.model_copy(update={"image_size": data.image_size or read_preprocessing(str(model.weights)).size})
    header, found = read_metadata(model.weights), dict[str, object]()
    channels, height, width = json.loads(header.get("input_shape", "[0, 0, 0]"))
    if channels == 1:
        found["grayscale"] = True
    if data.image_size is None and height == width and height in IMAGE_SIZES:
        found["image_size"] = height
    if data.crop is None and "crop" in header:
        found["crop"] = json.loads(header["crop"])
    return data.model_copy(update=found)


def align_labels(dataset: Dataset, data: DataConfig, model: ModelConfig) -> Dataset:
    """`dataset` with its labels in the order of the outputs that a Hugging Face folder names, unless a map says it.

    Single images, which name no classes, take them from a header too. Raises DataError where nobody names them.
    """
    single, name = len(dataset.classes) < 2, basename(model.weights or "")
    known: tuple[str, ...] = ()
    if data.labels_map is None and is_folder(model.weights):
        known = read_preprocessing(str(model.weights)).classes
    elif data.labels_map is None and single:
        known = tuple(json.loads(read_metadata(model.weights).get("classes", "[]")))
    dataset = align_to_model(dataset, known, name)
    if len(dataset.classes) >= 2:
        return dataset
    if known:
        raise DataError(f"{name} knows no class {dataset.classes[0]!r}; one of {', '.join(known)} was expected.")
    raise DataError(
        f"{dataset.name} names no classes, and the model's outputs have no names of their own: list them in the "
        "model's order in a file and give it with --labels-map."
    )


PREPARED = ("crop", "rotate", "flip")
"""Keys of [data] that a checkpoint written here carries: how the pictures it was audited on were prepared."""


def prepared_header(data: DataConfig) -> dict[str, str]:
    """Those of `PREPARED` that `data` sets, as JSON, for a checkpoint's header."""
    given = {name: getattr(data, name) for name in PREPARED}
    return {name: json.dumps(value) for name, value in given.items() if value != getattr(DataConfig(), name)}


def apply_image_preparation(data: DataConfig, weights: str | None) -> DataConfig:
    """`data` with the preparation that the checkpoint's header names where `data` sets none of that key itself."""
    header = read_metadata(weights)
    silent = [name for name in PREPARED if name in header and name not in data.model_fields_set]
    return DataConfig.model_validate(data.model_dump() | {name: json.loads(header[name]) for name in silent})


def read_metadata(weights: str | None) -> dict[str, str]:
    """What a checkpoint written here says of itself; empty for any other file."""
    if weights is None or Path(weights).suffix != ".safetensors":
        return {}
    try:
        with safe_open(weights, framework="np") as file:
            return file.metadata() or {}
    except (SafetensorError, OSError):
        # The reader of the format says what is wrong with the file.
        return {}
