"""How the images of published weights were prepared, as the library says that names the architecture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from audit.config import ModelConfig
from audit.core.image_options import Interpolation, interpolation_named
from audit.models.formats.hf_config import folder_of, is_folder, read_preprocessing
from audit.models.formats.timm_folder import timm_folder_beside


@dataclass(frozen=True)
class OwnPreparation:
    """How a model's own images were prepared.

    Attributes:
        source: Who says so: a folder's name, or a library's name of the architecture.
        stated_by_checkpoint: Whether it is said of these very weights, not of those that a library publishes.
        size: Height and width in pixels; None where nothing says it.
        interpolation: The filter of resizing; None where nothing says it.
        crop: The share of the shorter side that a centre crop leaves; None for the whole image.
        mean: Subtracted from images in [0, 1], one number a channel; None where nothing says it.
        std: Divided by after that.
    """

    source: str
    stated_by_checkpoint: bool
    size: int | None
    interpolation: Interpolation | None
    crop: float | None
    mean: tuple[float, ...] | None
    std: tuple[float, ...] | None


def own_preparation(model: ModelConfig) -> OwnPreparation | None:
    """How the model's own images were prepared; None where nothing says it.

    Args:
        model: The configuration of the model, with weights.
    """
    if is_folder(model.weights):
        stated = read_preprocessing(str(model.weights))
        name = folder_of(str(model.weights)).name
        return OwnPreparation(name, True, stated.size, stated.interpolation, stated.crop, stated.mean, stated.std)
    beside = timm_folder_beside(Path(model.weights)) if model.weights else None
    if beside is not None and beside.architecture.split(".")[0] == model.architecture.split(".")[0]:
        name = Path(str(model.weights)).parent.resolve().name
        return OwnPreparation(name, True, beside.size, beside.interpolation, beside.crop, beside.mean, beside.std)
    library, _, name = model.architecture.partition(":")
    read = {"timm": _of_timm, "torchvision": _of_torchvision}.get(library)
    try:
        return None if read is None else read(name, model.architecture)
    except (ImportError, ValueError, KeyError, AttributeError, TypeError):  # a name or a version without such a record
        return None


def _of_timm(name: str, source: str) -> OwnPreparation | None:
    from timm.models import get_pretrained_cfg

    config = get_pretrained_cfg(name)
    if config is None or not config.has_weights:
        return None
    side = config.input_size[-1] if config.input_size[-1] == config.input_size[-2] else None
    crop = config.crop_pct if config.crop_mode == "center" else None
    return OwnPreparation(
        source,
        False,
        side,
        interpolation_named(config.interpolation),
        crop,
        _numbers(config.mean),
        _numbers(config.std),
    )


def _of_torchvision(name: str, source: str) -> OwnPreparation | None:
    from torchvision.models import get_model_weights

    transforms: Any = get_model_weights(name)["DEFAULT"].transforms()
    side, whole = _side(transforms.crop_size), _side(transforms.resize_size)
    return OwnPreparation(
        source,
        False,
        side,
        interpolation_named(transforms.interpolation.value),
        side / whole if side and whole and side <= whole else None,
        _numbers(transforms.mean),
        _numbers(transforms.std),
    )


def _side(size: int | Sequence[int]) -> int | None:
    sides = {size} if isinstance(size, int) else set(size)
    return sides.pop() if len(sides) == 1 else None


def _numbers(values: Sequence[float]) -> tuple[float, ...]:
    return tuple(float(value) for value in values)
