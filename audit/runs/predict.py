"""Single pictures under a model that was trained before: what it sees in them, how surely, and where it looked."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from audit.config import DataConfig, ModelConfig
from audit.core.errors import DataError, ModelError, UsageError
from audit.core.registry import find
from audit.core.types import Attributions, Images
from audit.data.image_decoding import UnreadableImage, decode, strict_pillow
from audit.data.image_survey import printable
from audit.data.label_map import class_names
from audit.data.transforms import Preprocessing, transform_images
from audit.explanation.run import explain_images
from audit.models.files import basename, require_file
from audit.models.formats.hf_config import is_folder, read_preprocessing
from audit.models.load import load_model
from audit.models.under_test import ModelUnderTest, resolve_device
from audit.report.overlay import overlay_png
from audit.runs.checkpoint_metadata import apply_architecture, apply_image_preparation, read_metadata
from audit.storage.store import disk_faults, write_atomically

AUTO = ("grad-cam", "integrated-gradients", "occlusion")
"""What `auto` explains with: the first of these that applies to the model and finds a place in the picture."""
_MOST = 5
_ALIKE = 0.75
AS_THEY_ARE = Preprocessing()

Shape = tuple[int, int, int]


@dataclass(frozen=True)
class Candidate:
    """A class with its place among the model's outputs and its probability."""

    name: str
    index: int
    probability: float


@dataclass(frozen=True)
class Prediction:
    """What the model says of the picture `name`: at most five classes, the likeliest first; `method` and `explanation`,
    the map of the first class drawn over the picture, as a PNG; `reason` why there is none."""

    name: str
    top: tuple[Candidate, ...]
    method: str = ""
    explanation: bytes | None = None
    reason: str = ""


def load_for_prediction(model: ModelConfig, data: DataConfig, *, device: str, seed: int) -> ModelUnderTest:
    """The model of `model.weights`, with the classes, size and normalisation that its file or folder names.

    What it does not name, `data` does: `labels_map` lists the classes, `image_size` and `grayscale` say the shape.
    Raises ModelError, UntrustedError.
    """
    classes, shape = _described(str(model.weights), data)
    known = apply_architecture(model, classes)
    place = resolve_device(device)
    loaded = load_model(known, classes=classes, input_shape=shape, device=place, seed=seed)
    return ModelUnderTest(
        loaded.module, classes=classes, input_shape=shape, mean=known.mean, std=known.std, device=place
    )


def preparation_of(model: ModelConfig, data: DataConfig) -> Preprocessing:
    """How pictures are prepared: as `data` says, and where it is silent as the checkpoint's header does."""
    known = apply_image_preparation(data, model.weights)
    return Preprocessing(known.crop, known.rotate, known.flip)


def read_pictures(paths: Sequence[Path], shape: Shape, wish: Preprocessing = AS_THEY_ARE) -> Images:
    """The pictures at `paths`, upright and resized, perhaps their middle alone, turned and mirrored, float32
    (N, C, H, W) in [0, 1]. Raises DataError for the first that cannot be read."""
    with strict_pillow():
        pixels = [torch.from_numpy(_pixels(path, shape, wish.crop)) for path in paths]
    turned = transform_images(torch.stack(pixels).to(torch.float32), replace(wish, crop=None))
    return turned.round().clamp(0, 255) / 255


def predict(
    model: ModelUnderTest,
    paths: Sequence[Path],
    *,
    explain: str = "auto",
    seed: int = 0,
    wish: Preprocessing = AS_THEY_ARE,
) -> tuple[Prediction, ...]:
    """What `model` says of each picture, prepared as `wish` says, explained by the method `explain` ("auto": see
    `AUTO`; "none").

    Raises DataError for an unreadable picture, UsageError for an unknown method.
    """
    methods = AUTO if explain == "auto" else () if explain == "none" else (find("attribution", explain).name,)
    images = read_pictures(paths, model.input_shape, wish).to(model.device)
    probabilities = model.logits(images).softmax(1).tolist()
    return tuple(
        _prediction(model, printable(path.name), images[i : i + 1], probabilities[i], methods, seed)
        for i, path in enumerate(paths)
    )


def write_explanations(predictions: Sequence[Prediction], paths: Sequence[Path], out: Path) -> tuple[Path | None, ...]:
    """Write each explanation to `out`/PICTURE.METHOD.png and give its place; None where there is none.

    Raises UsageError when two pictures would share a name, SetupError when the disk refuses.
    """
    places = [out / f"{path.name}.{one.method}.png" for path, one in zip(paths, predictions, strict=True)]
    twice = [place for place in places if places.count(place) > 1]
    if twice and any(one.explanation is not None for one in predictions):
        raise UsageError(
            f"Two pictures are called alike, and both explanations would be {twice[0].name}; predict them one by one, "
            "with another --out."
        )
    written = []
    for one, place in zip(predictions, places, strict=True):
        if one.explanation is not None:
            with disk_faults(out):
                out.mkdir(parents=True, exist_ok=True)
            write_atomically(place, one.explanation)
        written.append(place if one.explanation is not None else None)
    return tuple(written)


def _described(weights: str, data: DataConfig) -> tuple[tuple[str, ...], Shape]:
    """Class names and (C, H, W), from the checkpoint's own words or from the configuration."""
    names, shape = _named(weights)
    names = class_names(data.labels_map) if data.labels_map else names
    if data.image_size:
        shape = (1 if data.grayscale else shape[0] if shape else 3, data.image_size, data.image_size)
    if names and shape:
        return names, shape
    raise ModelError(
        f"{basename(weights)} does not say which classes and image size it was trained for, as models written by "
        "audit do; give them with --labels-map FILE and --image-size PIXELS (and --grayscale for one channel)."
    )


def _named(weights: str) -> tuple[tuple[str, ...], Shape | None]:
    if is_folder(weights):
        wanted = read_preprocessing(weights)
        return wanted.classes, (3, wanted.size, wanted.size) if wanted.size else None
    header = read_metadata(str(require_file(weights)))
    if "input_shape" not in header:
        return (), None
    channels, height, width = json.loads(header["input_shape"])
    return tuple(json.loads(header["classes"])), (channels, height, width)


def _pixels(path: Path, shape: Shape, crop: float | None) -> NDArray[np.uint8]:
    try:
        return decode(path.read_bytes(), shape[1:], grayscale=shape[0] == 1, crop=crop)
    except UnreadableImage as fault:
        raise DataError(f"{printable(path.name)} is unreadable: {fault}. Give another picture.") from fault
    except OSError as fault:
        raise DataError(f"Cannot read {str(path)!r}: {fault.strerror}. Give a picture file.") from fault


def _top(probabilities: Sequence[float], classes: Sequence[str]) -> tuple[Candidate, ...]:
    order = sorted(range(len(classes)), key=lambda index: -probabilities[index])
    return tuple(Candidate(classes[index], index, probabilities[index]) for index in order[:_MOST])


def _prediction(
    model: ModelUnderTest, name: str, image: Images, probabilities: Sequence[float], methods: Sequence[str], seed: int
) -> Prediction:
    top, reason = _top(probabilities, model.classes), ""
    for method in methods:
        found = explain_images(model, image, method=method, seed=seed)
        if found.attributions is None:
            reason = found.reason
        elif not bool(found.attributions.any()):
            reason = _EMPTY
        elif method != methods[-1] and _flat(found.attributions):
            continue  # a map of a few cells, all alike, points nowhere; the next method may
        else:
            drawn = overlay_png(image[0].cpu().numpy(), found.attributions[0].detach().cpu().numpy())
            return Prediction(name, top, method, drawn)
    return Prediction(name, top, methods[-1] if methods else "", reason=reason)


def _flat(attributions: Attributions) -> bool:
    """Whether all pixels have nearly the same share: Grad-CAM's map of a small picture may be of four cells."""
    low, high = sorted(abs(float(bound)) for bound in attributions.aminmax())
    return low > _ALIKE * high and bool((attributions > 0).all() or (attributions < 0).all())


_EMPTY = "The map is zero everywhere: by this method nothing in the picture speaks for the class."
