"""Says where the images of a run are prepared otherwise than the model's own were: size, filter, crop, mean and std."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np

from audit.config import DataConfig, ModelConfig
from audit.core.note import Note, note
from audit.data.dataset import Dataset
from audit.models.own_preparation import OwnPreparation, own_preparation

_FITTED = ("data_resized", "data_resized_commonest", "data_resized_all", "data_cut", "data_middle")
"""Notes of data whose images were resized or cropped; in any other the filter and the crop change nothing."""
_CLOSE = 0.02
_LARGEST_MEAN = 2.0
"""No mean of images in [0, 1] reaches it; of pixels in 0 to 255 any does."""
_BYTES_MEANT = note(
    "model_mean_of_bytes",
    "Mean and std look like those of pixels in 0 to 255, and images are in 0 to 1 here: divide both by 255.",
)


def preparation_notes(data: DataConfig, model: ModelConfig, dataset: Dataset) -> tuple[Note, ...]:
    """What differs from the model's own preparation, with the flags that follow it; nothing where nothing is known.

    Args:
        data: The configuration of the data, completed by what the checkpoint says.
        model: The configuration of the model, with weights and its architecture.
        dataset: The images.
    """
    if np.max(0.0 if model.mean is None else model.mean) > _LARGEST_MEAN:
        return (_BYTES_MEANT,)
    own = own_preparation(model)
    if own is None:
        return ()
    side = dataset.shape[1] if dataset.shape[1] == dataset.shape[2] else None
    if own.size is not None and own.size != side:
        if not own.stated_by_checkpoint:  # trained anew at another size: what the library says is of other weights
            return ()
        return (_differs(own, [f"--image-size {own.size}"]),)
    flags = [*_geometry(own, data, dataset), *_normalisation(own, model)]
    return (_differs(own, flags),) if flags else ()


def _geometry(own: OwnPreparation, data: DataConfig, dataset: Dataset) -> Iterator[str]:
    if not any(said.key in _FITTED for said in dataset.notes):
        return
    if own.interpolation is not None and own.interpolation != (data.interpolation or "bilinear"):
        yield f"--interpolation {own.interpolation}"
    if own.crop is not None and (data.crop is None or not math.isclose(own.crop, data.crop, abs_tol=_CLOSE)):
        yield f"--crop {own.crop:.3g}"


def _normalisation(own: OwnPreparation, model: ModelConfig) -> Iterator[str]:
    if own.mean is None or own.std is None:
        return
    used = (0.0 if model.mean is None else model.mean, 1.0 if model.std is None else model.std)
    if not all(_close(values, given) for values, given in zip((own.mean, own.std), used, strict=True)):
        yield f"--mean {_flag(own.mean)} --std {_flag(own.std)}"


def _close(values: Sequence[float], given: float | Sequence[float]) -> bool:
    return bool(np.allclose(np.broadcast_to(np.atleast_1d(given), (len(values),)), values, atol=_CLOSE))


def _differs(own: OwnPreparation, flags: Sequence[str]) -> Note:
    listed = " ".join(flags)
    if own.stated_by_checkpoint:
        return note(
            "model_prepared_otherwise",
            "{source} says that its images were prepared with {flags}, and in this run they are not.",
            source=own.source,
            flags=listed,
        )
    return note(
        "model_published_otherwise",
        "The published weights of {source} were made for images prepared with {flags}, and in this run they are not: "
        "give these flags where the model was trained so.",
        source=own.source,
        flags=listed,
    )


def _flag(numbers: Sequence[float]) -> str:
    return ",".join(f"{number:.4g}" for number in numbers)
