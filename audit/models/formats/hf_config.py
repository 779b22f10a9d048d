"""The JSON files of a Hugging Face model folder, read as data: architecture, classes, preprocessing.

The folder's own loader would follow some of their entries: fetch remote code, attention kernels or a backbone, or
unpack quantised weights. A configuration that asks for any of these is refused here, before transformers sees it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from audit.core.errors import ModelError, UntrustedError
from audit.core.image_options import Interpolation, interpolation_named
from audit.core.note import Note, note
from audit.models.files import sha256_of

PREFIX = "hf:"
_INDEX = "model.safetensors.index.json"
_WHOLE = "model.safetensors"
PLAIN_PICKLE = "pytorch_model.bin"
_PICKLES = (PLAIN_PICKLE, "pytorch_model.bin.index.json")
_CODE = ("auto_map", "custom_pipelines")
_ELSEWHERE = ("backbone", "use_pretrained_backbone", "quantization_config", "kernel_config")
_MOST_BYTES = 64 << 20
_RESAMPLE: tuple[Interpolation, ...] = ("nearest", "lanczos", "bilinear", "bicubic", "box", "hamming")
"""Pillow's filters by their numbers."""
_WHOLE_FROM = 384


@dataclass(frozen=True)
class HfPreprocessing:
    """How a folder's images are prepared.

    Attributes:
        mean: Subtracted from images in [0, 1], one number a channel; None where nothing says it.
        std: Divided by after that.
        size: Height and width in pixels; None where nothing says it or they differ.
        bgr: Whether the channels are reversed.
        grey: Whether it takes one channel.
        interpolation: The filter of resizing; None where nothing says it, or nothing is resized.
        crop: The share of the shorter side that its centre crop leaves; None for the whole image, or an unknown share.
        classes: Names in the model's order; empty where they have no names of their own.
        notes: Sentences that a reader should know.
    """

    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    size: int | None = None
    bgr: bool = False
    grey: bool = False
    interpolation: Interpolation | None = None
    crop: float | None = None
    classes: tuple[str, ...] = ()
    notes: tuple[Note, ...] = ()


def is_folder(weights: str | None) -> bool:
    """Whether weights are a Hugging Face folder.

    Args:
        weights: A file's path, hf:FOLDER, or None.
    """
    return weights is not None and weights.startswith(PREFIX)


def folder_of(weights: str) -> Path:
    """The folder of hf:FOLDER.

    Args:
        weights: hf:FOLDER.

    Raises:
        ModelError: When it is no folder, or has no config.json.
    """
    folder = Path(os.path.abspath(weights.removeprefix(PREFIX)))
    if not folder.is_dir() or not (folder / "config.json").is_file():
        raise ModelError(
            f"{weights!r} is no Hugging Face model folder with a config.json; give a local one, as save_pretrained "
            "writes it. Nothing is downloaded."
        )
    return folder


def configuration(folder: Path) -> dict[str, Any]:
    """The checked config.json.

    Args:
        folder: The folder.

    Raises:
        UntrustedError: When it asks for code.
        ModelError: When it asks for other files, or is no JSON object.
    """
    config = _json(folder / "config.json")
    for key in _keys(config):
        if key in _CODE:
            raise UntrustedError(
                f"{folder.name}/config.json asks for code of its own ({key}), which is never run. Give an architecture "
                "that transformers has, or the weights with --architecture FILE.py:FUNCTION."
            )
        if key in _ELSEWHERE:
            raise ModelError(
                f"{folder.name}/config.json has {key!r}, which names other files or another number format; a plain "
                "float image classifier was expected. Export the model as ONNX instead."
            )
    return config


def weight_files(folder: Path) -> tuple[Path, ...]:
    """The .safetensors files of a folder, else its one pickle, of which only plain data is read.

    Args:
        folder: The folder.

    Raises:
        UntrustedError: When there are several pickles alone, or the index names a file outside the folder.
        ModelError: When there are no weights, or a shard is missing.
    """
    if (folder / _WHOLE).is_file():
        return (folder / _WHOLE,)
    if (folder / _INDEX).is_file():
        return _shards(folder)
    if (folder / PLAIN_PICKLE).is_file():
        return (folder / PLAIN_PICKLE,)
    pickles = [name for name in _PICKLES if (folder / name).exists()]
    if pickles:
        raise UntrustedError(
            f"{folder.name} holds its weights as {pickles[0]}, a pickle, which is code; {_WHOLE} was expected. Save it "
            "again with save_pretrained where you trust it."
        )
    raise ModelError(f"{folder.name} holds no {_WHOLE}; save the model again with save_pretrained.")


def folder_hash(weights: str) -> str:
    """The SHA-256 of every file that is read of hf:FOLDER, as text.

    Args:
        weights: hf:FOLDER.
    """
    folder = folder_of(weights)
    files = [folder / "config.json", *weight_files(folder)]
    prepared = folder / "preprocessor_config.json"
    return repr([(file.name, sha256_of(file)) for file in [*files, *([prepared] if prepared.is_file() else [])]])


def read_preprocessing(weights: str) -> HfPreprocessing:
    """How hf:FOLDER wants its images, from preprocessor_config.json, else config.json.

    Args:
        weights: hf:FOLDER. Raises ModelError when its files are damaged.
    """
    folder = folder_of(weights)
    config = configuration(folder)
    classes = _class_names(config)
    path = folder / "preprocessor_config.json"
    if not path.is_file():
        plain = note(
            "model_no_preprocessor",
            "{name} has no preprocessor_config.json: pixels are given in [0, 1] unless --mean and --std say.",
            name=folder.name,
        )
        grey = config.get("num_channels") == 1
        return HfPreprocessing(size=_side(config.get("image_size")), grey=grey, classes=classes, notes=(plain,))
    settings = _json(path)
    mean, std = _normalisation(settings, path)
    return HfPreprocessing(
        mean,
        std,
        _size(settings),
        bool(settings.get("do_flip_channel_order")),
        config.get("num_channels") == 1,
        _interpolation(settings),
        _crop_share(settings),
        classes,
        tuple(_notes(settings, folder.name)),
    )


def _normalisation(settings: Mapping[str, Any], path: Path) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """For images in [0, 1]: (255 r x - m) / s is (x - m / 255 r) / (s / 255 r), r the rescaling of pixels 0..255."""
    try:
        full = 255 * float(settings.get("rescale_factor", 1 / 255)) if settings.get("do_rescale", True) else 255.0
        plain = not settings.get("do_normalize", True)
        mean = [0.0] if plain else [float(m) for m in settings.get("image_mean", [0.5])]
        std = [1.0] if plain else [float(s) for s in settings.get("image_std", [0.5])]
        return tuple(m / full for m in mean), tuple(s / full for s in std)
    except (TypeError, ValueError, ZeroDivisionError) as fault:
        raise ModelError(
            f"{path.parent.name}/{path.name} holds no normalisation that can be read ({fault}); lists of numbers "
            "image_mean and image_std, and a positive rescale_factor, were expected."
        ) from fault


def _size(settings: Mapping[str, Any]) -> int | None:
    """What reaches the net: the crop where there is one, else the size. None where it is not square."""
    if settings.get("do_center_crop") and settings.get("crop_size") is not None:
        return _side(settings["crop_size"])
    return _side(settings.get("size")) if settings.get("do_resize", True) else None


def _interpolation(settings: Mapping[str, Any]) -> Interpolation | None:
    """Pillow's number or name of the filter, as `resample` has it."""
    resample = settings.get("resample")
    if not settings.get("do_resize", True) or isinstance(resample, bool):
        return None
    if isinstance(resample, int):
        return _RESAMPLE[resample] if 0 <= resample < len(_RESAMPLE) else None
    return interpolation_named(str(resample).lower())


def _crop_share(settings: Mapping[str, Any]) -> float | None:
    """The share of the shorter side that the centre crop leaves; None without one, or where the numbers do not say."""
    cut, whole = _side(settings.get("crop_size")), _side(settings.get("size"))
    if isinstance(settings.get("crop_pct"), float) and 0 < settings["crop_pct"] <= 1:
        # ConvNextImageProcessor squeezes the whole image from 384 on.
        return float(settings["crop_pct"]) if (whole or 0) < _WHOLE_FROM else None
    if not settings.get("do_center_crop") or not settings.get("do_resize", True):
        return None
    return cut / whole if cut and whole and cut <= whole else None


def _side(size: Any) -> int | None:
    if isinstance(size, Mapping):
        sides = {size[key] for key in ("height", "width", "shortest_edge") if isinstance(size.get(key), int)}
        return sides.pop() if len(sides) == 1 else None
    if isinstance(size, list) and len(set(map(str, size))) == 1:
        size = size[0]
    return size if type(size) is int else None


def _notes(settings: Mapping[str, Any], name: str) -> Iterator[Note]:
    if settings.get("do_center_crop") and _crop_share(settings) is None:
        yield note(
            "model_for_middle",
            "{name} was made for the middle of each image, and its files do not say how much of it: --crop cuts it "
            "out, else the whole image is resized.",
            name=name,
        )
    if settings.get("do_flip_channel_order"):
        yield note("model_bgr", "{name} takes BGR: channels are reversed for it.", name=name)


def _class_names(config: Mapping[str, Any]) -> tuple[str, ...]:
    labels = config.get("id2label")
    if not isinstance(labels, Mapping) or set(labels) != {str(i) for i in range(len(labels))}:
        return ()
    names = tuple(str(labels[str(i)]) for i in range(len(labels)))
    made_up = all(name == f"LABEL_{i}" for i, name in enumerate(names))
    return () if made_up else names


def _shards(folder: Path) -> tuple[Path, ...]:
    listed = _json(folder / _INDEX).get("weight_map")
    names = sorted(set(map(str, listed.values()))) if isinstance(listed, Mapping) else []
    if not names:
        raise ModelError(f"{folder.name}/{_INDEX} lists no shards; save the model again with save_pretrained.")
    for name in names:
        if Path(name).name != name or not name.endswith(".safetensors"):
            raise UntrustedError(f"{folder.name}/{_INDEX} names {name!r}, outside its folder or no safetensors file.")
        if not (folder / name).is_file():
            raise ModelError(f"{folder.name} lacks its shard {name}; copy the whole folder again.")
    return tuple(folder / name for name in names)


def _json(path: Path) -> dict[str, Any]:
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise ModelError(f"{path.parent.name}/{path.name} is larger than any configuration; it is not read.")
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as fault:
        raise ModelError(
            f"{path.parent.name}/{path.name} is not JSON ({str(fault)[:80]}); copy the folder again."
        ) from fault
    if not isinstance(content, dict):
        raise ModelError(f"{path.parent.name}/{path.name} holds no JSON object; copy the folder again.")
    return content


def _keys(content: Any) -> Iterator[str]:
    """Every key whose value is set, at any depth."""
    if isinstance(content, list):
        for entry in content:
            yield from _keys(entry)
    elif isinstance(content, dict):
        for key, value in content.items():
            if value not in (None, False, {}, []):
                yield key
            yield from _keys(value)
