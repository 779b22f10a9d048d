"""MAITE's data sets read for this package, and a model of ours offered as one of MAITE's."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from audit.core.errors import DataError, UsageError
from audit.core.pixel_range import is_rounding
from audit.core.types import Images, Labels
from audit.models.ambient_torch import in_plain_torch
from audit.models.maite_model import is_maite, maite_class_names, maite_metadata
from audit.models.under_test import ModelUnderTest
from audit.storage.store import write_atomically

_ONE = 1e-6
"""How far from 0 and 1 the values of a one-hot target may lie."""


@dataclass(frozen=True)
class MaiteData:
    """A MAITE data set of image classification, in memory.

    Attributes:
        name: Its id.
        images: Float32 (N, C, H, W) in [0, 1], on the CPU.
        labels: int64 (N,), on the CPU.
        classes: Their names, from `index2label`; numbers where there is none.
        ids: The id of each image.
    """

    name: str
    images: Images
    labels: Labels
    classes: tuple[str, ...]
    ids: tuple[str, ...]

    def save(self, path: str | Path) -> None:
        """Write the images, labels and names as an .npz file, which `audit run --data npz:FILE` reads.

        Args:
            path: The file.
        """
        packed = io.BytesIO()
        pixels = self.images.permute(0, 2, 3, 1).numpy()
        as_bytes = (pixels * 255).round().astype(np.uint8)
        exact = np.array_equal(as_bytes.astype(np.float32) / np.float32(255), pixels)
        np.savez_compressed(
            packed, images=as_bytes if exact else pixels, labels=self.labels.numpy(), classes=np.array(self.classes)
        )
        write_atomically(Path(path), packed.getvalue())


@in_plain_torch
def from_maite(dataset: Any, *, limit: int | None = None) -> MaiteData:
    """Read a MAITE data set: arrays (C, H, W) of one size, one-hot targets, ids.

    Args:
        dataset: A data set by MAITE's protocol of image classification.
        limit: Read the first so many alone; None for all.

    Raises:
        UsageError: It is no MAITE data set, or its `index2label` leaves numbers out.
        DataError: An image has another shape or range than was expected, or a target is not one-hot.
    """
    if not (is_maite(dataset) and hasattr(dataset, "__getitem__") and hasattr(dataset, "__len__")):
        raise UsageError(
            f"The data set is of type {type(dataset).__name__}, where one of MAITE's was expected: with __len__, "
            "__getitem__ giving (image, target, metadata), and metadata that hold an id."
        )
    name = str(maite_metadata(dataset)["id"])
    count = len(dataset) if limit is None else min(limit, len(dataset))
    if count < 1:
        raise DataError(f"The MAITE data set {name!r} holds no image: at least one was expected.")
    images: list[Tensor] = []
    labels: list[int] = []
    ids: list[str] = []
    classes = maite_class_names(dataset)
    width = None if classes is None else len(classes)
    for number in range(count):
        image, target, metadata = dataset[number]
        images.append(pixels_of(image, f"Image {number} of the MAITE data set {name!r}"))
        if images[-1].shape != images[0].shape:
            raise DataError(
                f"Image {number} of the MAITE data set {name!r} has shape {tuple(images[-1].shape)} and the first has "
                f"{tuple(images[0].shape)}: bring them to one size first."
            )
        one_hot = _one_hot(target, number, name, width)
        width = len(one_hot)
        labels.append(int(one_hot.argmax()))
        ids.append(str(metadata["id"]) if isinstance(metadata, Mapping) and "id" in metadata else str(number))
    names = classes or tuple(map(str, range(width or 0)))
    return MaiteData(name, torch.stack(images), torch.tensor(labels, device="cpu"), names, tuple(ids))


class MaiteModel:
    """A model of this package by MAITE's protocol of image classification.

    Attributes:
        metadata: `id`, and `index2label`, the names of the classes.
    """

    def __init__(self, model: ModelUnderTest, name: str) -> None:
        """Wrap a model.

        Args:
            model: The model.
            name: Its id.
        """
        self.model = model
        self.metadata: dict[str, Any] = {"id": name, "index2label": dict(enumerate(model.classes))}

    def __call__(self, batch: Sequence[Any], /) -> Sequence[NDArray[np.float32]]:
        """The probabilities of each image's classes.

        Args:
            batch: Images (C, H, W), floats in [0, 1] or bytes.

        Returns:
            Float32 (classes,) for each.

        Raises:
            DataError: An image is of the wrong type or range.
            ModelError: It has another shape than the model's.
        """
        images = torch.stack([pixels_of(image, f"Image {number}") for number, image in enumerate(batch)])
        shares = self.model.logits(images).softmax(1).cpu().numpy()
        return [np.asarray(row, np.float32) for row in shares]


def as_maite(model: ModelUnderTest, *, name: str = "") -> MaiteModel:
    """Offer a model to what speaks MAITE: called with a sequence of images it gives a sequence of probabilities.

    Args:
        model: The model, from `wrap`, or the `model` of what `train` or `harden` returned.
        name: Its id in MAITE's metadata; "" for the name of its class.
    """
    return MaiteModel(model, name or type(model.net).__name__)


def pixels_of(image: Any, what: str) -> Tensor:
    """An image of MAITE's, float32 (C, H, W) in [0, 1] on the CPU; bytes are divided by 255.

    Args:
        image: Anything that numpy reads as an array.
        what: What it is, for messages.

    Raises:
        DataError: It has another shape, type or range.
    """
    array = np.asarray(image.detach().cpu() if isinstance(image, Tensor) else image)
    if array.ndim != 3 or array.dtype.kind not in "uf":
        raise DataError(
            f"{what} is {array.dtype} of shape {array.shape}, where bytes or floats (C, H, W) were expected."
        )
    if array.dtype == np.uint8:
        return torch.from_numpy(array.astype(np.float32) / np.float32(255))
    low, high = float(array.min()), float(array.max())
    if array.dtype.kind == "u" or not is_rounding(low, high):
        raise DataError(
            f"{what} is {array.dtype} with pixels from {low:g} to {high:g}, where bytes, or floats in [0, 1], were "
            "expected. Scale them; a model's normalisation is given as mean and std of audit.wrap."
        )
    return torch.from_numpy(array.astype(np.float32)).clamp(0, 1)


def _one_hot(target: Any, number: int, name: str, width: int | None) -> NDArray[np.float64]:
    values = np.asarray(target.detach().cpu() if isinstance(target, Tensor) else target)
    whole = values.ndim == 1 and values.dtype.kind in "biuf" and (width is None or len(values) == width)
    if whole:
        ones = np.abs(values.astype(np.float64) - 1) <= _ONE
        if ones.sum() == 1 and bool((np.abs(values[~ones].astype(np.float64)) <= _ONE).all()):
            return values.astype(np.float64)
    shown = np.array2string(values, precision=2, threshold=6, separator=", ") if values.size else "empty"
    raise DataError(
        f"Target {number} of the MAITE data set {name!r} is not one-hot: {shown}, where {width or 'some'} values, one "
        "of them 1 and the others 0, were expected. Of soft labels give the true class alone."
    )
