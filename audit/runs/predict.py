"""Predicts the class of single pictures with a trained model, and explains the prediction."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from audit.config import DataConfig, ModelConfig
from audit.core.errors import ModelError, UsageError
from audit.core.note import Note
from audit.core.registry import find
from audit.core.types import Attributions, Images
from audit.data.image_survey import printable
from audit.data.label_map import class_names
from audit.explanation.run import explain_images
from audit.metrics.model_checks import fixed_function_notes
from audit.models.devices import resolve_device
from audit.models.files import basename, is_code, require_file
from audit.models.formats.hf_config import is_folder, read_preprocessing
from audit.models.load import load_model, with_own_normalisation
from audit.models.loaded import InputShape
from audit.models.outputs import confidences
from audit.models.own_weights import with_own_weights
from audit.models.under_test import ModelUnderTest
from audit.report.overlay import overlay_png
from audit.runs.checkpoint_metadata import apply_architecture, apply_image_preparation, read_metadata
from audit.runs.pictures import read_pictures
from audit.storage.store import disk_faults, write_atomically

_AUTO = ("grad-cam", "integrated-gradients", "occlusion")
"""What `auto` explains with: the first of these that applies to the model and finds a place in the picture."""
_MOST = 5
_EXAMINED = 4
"""Pictures on which the model is examined."""
_ALIKE = 0.75
_UNCHANGED = DataConfig()
_EMPTY = "The map is zero everywhere: by this method nothing in the picture speaks for the class."


@dataclass(frozen=True)
class Candidate:
    """A class that a picture may show.

    Attributes:
        name: The class.
        index: Its index among the model's outputs.
        probability: Its softmax probability, in [0, 1]; its own score where each class has a sigmoid.
    """

    name: str
    index: int
    probability: float


@dataclass(frozen=True)
class Prediction:
    """What a model says of a picture.

    Attributes:
        name: The name of its file.
        top: At most five classes, the likeliest first.
        method: The attribution method that explains the first; "" when none was asked for.
        explanation: Its map drawn over the picture, as a PNG; None where there is none.
        reason: Why there is none.
    """

    name: str
    top: tuple[Candidate, ...]
    method: str = ""
    explanation: bytes | None = None
    reason: str = ""


def load_for_prediction(model: ModelConfig, data: DataConfig, *, device: str, seed: int) -> ModelUnderTest:
    """Load a model with the classes, size and normalisation that its file or folder names.

    Args:
        model: The configuration of the model, with weights or with a function that returns a module with its own.
        data: What names the rest: `labels_map` the classes, `image_size` and `grayscale` the shape.
        device: As in the configuration: auto, cpu, cuda, ...
        seed: Of the configuration.

    Raises:
        ModelError: Neither names the classes or the size, or the weights cannot be loaded.
        UsageError: There are no weights.
        UntrustedError: Loading runs code that nobody vouched for.
    """
    if model.weights is None and not is_code(model.architecture):
        raise UsageError("A prediction needs a model that exists: give a checkpoint with --model.")
    classes, shape = _classes_and_shape(model, data)
    model = apply_architecture(model, classes)
    model, _ = with_own_weights(model, classes=len(classes), input_shape=shape, seed=seed)
    if not model.loads:
        raise UsageError(
            f"{_name(model)} returns new weights at every call: give trained ones with --model, or a function that "
            "loads its own."
        )
    target = resolve_device(device)
    loaded = load_model(model, classes=classes, input_shape=shape, device=target, seed=seed)
    loaded, model = with_own_normalisation(loaded, model)
    return ModelUnderTest(
        loaded.module, classes=classes, input_shape=shape, mean=model.mean, std=model.std, device=target
    )


def preparation_of(model: ModelConfig, data: DataConfig) -> DataConfig:
    """How pictures are prepared: as the configuration says, and where it is silent as the checkpoint does.

    Args:
        model: The configuration of the model.
        data: The configuration of the data.
    """
    return apply_image_preparation(data, model.weights)


def predict_pictures(
    model: ModelUnderTest,
    paths: Sequence[Path],
    *,
    explain: str = "auto",
    seed: int = 0,
    data: DataConfig = _UNCHANGED,
) -> tuple[Prediction, ...]:
    """Predict and explain pictures.

    Args:
        model: The model.
        paths: Picture files.
        explain: The name of an attribution method, "none", or "auto" for the first of Grad-CAM, integrated gradients
            and occlusion that applies to the model and points at a part of the picture.
        seed: Of the method's draws.
        data: How the pictures are prepared.

    Returns:
        A prediction for each picture.

    Raises:
        DataError: A picture cannot be read.
        UsageError: There is no such method.
    """
    methods = _AUTO if explain == "auto" else () if explain == "none" else (find("attribution", explain).name,)
    images = read_pictures(paths, model.input_shape, data).to(model.device)
    probabilities = confidences(model.logits(images), model.output_kind).tolist()
    return tuple(
        _prediction(model, printable(path.name), images[i : i + 1], probabilities[i], methods, seed)
        for i, path in enumerate(paths)
    )


def doubts_of(model: ModelUnderTest, paths: Sequence[Path], data: DataConfig = _UNCHANGED) -> tuple[Note, ...]:
    """Why the predictions themselves are in doubt: not finite, random, or dependent on the other pictures.

    Args:
        model: The model.
        paths: Picture files; the first few are looked at.
        data: How the pictures are prepared.
    """
    images = read_pictures(paths[:_EXAMINED], model.input_shape, data)
    return (*model.notes, *fixed_function_notes(model, images.to(model.device)))


def write_explanations(predictions: Sequence[Prediction], paths: Sequence[Path], out: Path) -> tuple[Path | None, ...]:
    """Write each explanation to `out`/PICTURE.METHOD.png.

    Args:
        predictions: Of the pictures.
        paths: The picture files, in the same order.
        out: The folder, made where it is absent.

    Returns:
        The file of each explanation; None where there is none.

    Raises:
        UsageError: Two explanations would have the same file.
        SetupError: The disk refuses.
    """
    files = [out / f"{path.name}.{item.method}.png" for path, item in zip(paths, predictions, strict=True)]
    twice = [file for file in files if files.count(file) > 1]
    if twice and any(item.explanation is not None for item in predictions):
        raise UsageError(
            f"Two pictures are called alike, and both explanations would be {twice[0].name}; predict them one by one, "
            "with another --out."
        )
    written: list[Path | None] = []
    for item, file in zip(predictions, files, strict=True):
        if item.explanation is not None:
            with disk_faults(out, "--out"):
                out.mkdir(parents=True, exist_ok=True)
            write_atomically(file, item.explanation, flag="--out")
        written.append(file if item.explanation is not None else None)
    return tuple(written)


def _classes_and_shape(model: ModelConfig, data: DataConfig) -> tuple[tuple[str, ...], InputShape]:
    """Class names and (C, H, W), from the checkpoint or from the configuration."""
    names, shape = _header_of(model.weights) if model.weights else ((), None)
    names = class_names(data.labels_map) if data.labels_map else names
    if data.image_size:
        shape = (1 if data.grayscale else shape[0] if shape else 3, data.image_size, data.image_size)
    if names and shape:
        return names, shape
    raise ModelError(
        f"{_name(model)} does not say which classes and image size it was trained for, as models written by "
        "audit do; give them with --labels-map FILE and --image-size PIXELS (and --grayscale for one channel)."
    )


def _name(model: ModelConfig) -> str:
    return basename(model.weights or model.architecture)


def _header_of(weights: str) -> tuple[tuple[str, ...], InputShape | None]:
    if is_folder(weights):
        expected = read_preprocessing(weights)
        channels = 1 if expected.grey else 3
        return expected.classes, (channels, expected.size, expected.size) if expected.size else None
    header = read_metadata(str(require_file(weights)))
    if "input_shape" not in header:
        return (), None
    channels, height, width = json.loads(header["input_shape"])
    return tuple(json.loads(header["classes"])), (channels, height, width)


def _top(probabilities: Sequence[float], classes: Sequence[str]) -> tuple[Candidate, ...]:
    order = sorted(range(len(classes)), key=lambda index: -probabilities[index])
    return tuple(Candidate(classes[index], index, probabilities[index]) for index in order[:_MOST])


def _prediction(
    model: ModelUnderTest, name: str, image: Images, probabilities: Sequence[float], methods: Sequence[str], seed: int
) -> Prediction:
    top, reason = _top(probabilities, model.classes), ""
    for method in methods:
        result = explain_images(model, image, method=method, seed=seed)
        if result.attributions is None:
            reason = result.reason.text
        elif not bool(result.attributions.any()):
            reason = _EMPTY
        elif method != methods[-1] and _flat(result.attributions):
            continue  # a map of a few cells, all alike, points nowhere; the next method may
        else:
            overlay = overlay_png(image[0].cpu().numpy(), result.attributions[0].detach().cpu().numpy())
            return Prediction(name, top, method, overlay)
    return Prediction(name, top, methods[-1] if methods else "", reason=reason)


def _flat(attributions: Attributions) -> bool:
    """Whether all pixels have nearly the same share: Grad-CAM's map of a small picture may be of four cells."""
    low, high = sorted(abs(float(bound)) for bound in attributions.aminmax())
    return low > _ALIKE * high and bool((attributions > 0).all() or (attributions < 0).all())
