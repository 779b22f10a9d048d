"""What a Hugging Face model folder says in its JSON files, read as data: architecture, classes, preparation of images.

The folder's own loader would follow some of those words: fetch remote code, attention kernels or a backbone, or
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
from audit.models.files import sha256_of

PREFIX = "hf:"
_INDEX = "model.safetensors.index.json"
_WHOLE = "model.safetensors"
_PICKLES = ("pytorch_model.bin", "pytorch_model.bin.index.json")
_CODE = ("auto_map", "custom_pipelines")
_ELSEWHERE = ("backbone", "use_pretrained_backbone", "quantization_config", "kernel_config")
_MOST_BYTES = 64 << 20


@dataclass(frozen=True)
class HfPreprocessing:
    """How a folder's images are prepared: `mean` and `std` (one a channel) of images in [0, 1], `size` the height and
    width in pixels, None where nothing says it; `bgr` where the channels are reversed; `classes` in the model's
    order, empty where they have no names of their own; `notes` what a reader should know."""

    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    size: int | None = None
    bgr: bool = False
    classes: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def is_folder(weights: str | None) -> bool:
    """Whether `weights` means hf:FOLDER."""
    return weights is not None and weights.startswith(PREFIX)


def folder_of(weights: str) -> Path:
    """The folder of hf:FOLDER. Raises ModelError when it is none, or has no config.json."""
    folder = Path(os.path.abspath(weights.removeprefix(PREFIX)))
    if not folder.is_dir() or not (folder / "config.json").is_file():
        raise ModelError(
            f"{weights!r} is no Hugging Face model folder with a config.json; give a local one, as save_pretrained "
            "writes it. Nothing is downloaded."
        )
    return folder


def configuration(folder: Path) -> dict[str, Any]:
    """The checked config.json. Raises UntrustedError where it asks for code, ModelError where for other files."""
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
    """The .safetensors files of the folder. Raises UntrustedError where there are pickles alone, ModelError for an
    absent shard or one outside the folder."""
    if (folder / _WHOLE).is_file():
        return (folder / _WHOLE,)
    if (folder / _INDEX).is_file():
        return _shards(folder)
    pickles = [name for name in _PICKLES if (folder / name).exists()]
    if pickles:
        raise UntrustedError(
            f"{folder.name} holds its weights as {pickles[0]}, a pickle, which is code; {_WHOLE} was expected. Save it "
            "again with save_pretrained where you trust it."
        )
    raise ModelError(f"{folder.name} holds no {_WHOLE}; save the model again with save_pretrained.")


def folder_hash(weights: str) -> str:
    """What identifies hf:FOLDER: the SHA-256 of every file that is read of it."""
    folder = folder_of(weights)
    files = [folder / "config.json", *weight_files(folder)]
    prepared = folder / "preprocessor_config.json"
    return repr([(file.name, sha256_of(file)) for file in [*files, *([prepared] if prepared.is_file() else [])]])


def read_preprocessing(weights: str) -> HfPreprocessing:
    """How hf:FOLDER wants its images, from preprocessor_config.json, else config.json. Raises ModelError."""
    folder = folder_of(weights)
    config = configuration(folder)
    classes = _class_names(config)
    path = folder / "preprocessor_config.json"
    if not path.is_file():
        note = f"{folder.name} has no preprocessor_config.json: pixels are given in [0, 1] unless --mean and --std say."
        return HfPreprocessing(size=_side(config.get("image_size")), classes=classes, notes=(note,))
    given = _json(path)
    mean, std = _normalisation(given, path)
    return HfPreprocessing(
        mean, std, _size(given), bool(given.get("do_flip_channel_order")), classes, tuple(_notes(given, folder.name))
    )


def _normalisation(given: Mapping[str, Any], path: Path) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """For images in [0, 1]: (255 r x - m) / s is (x - m / 255 r) / (s / 255 r), r the rescaling of pixels 0..255."""
    try:
        full = 255 * float(given.get("rescale_factor", 1 / 255)) if given.get("do_rescale", True) else 255.0
        plain = not given.get("do_normalize", True)
        mean = [0.0] if plain else [float(m) for m in given.get("image_mean", [0.5])]
        std = [1.0] if plain else [float(s) for s in given.get("image_std", [0.5])]
        return tuple(m / full for m in mean), tuple(s / full for s in std)
    except (TypeError, ValueError, ZeroDivisionError) as fault:
        raise ModelError(
            f"{path.parent.name}/{path.name} holds no normalisation that can be read ({fault}); lists of numbers "
            "image_mean and image_std, and a positive rescale_factor, were expected."
        ) from fault


def _size(given: Mapping[str, Any]) -> int | None:
    """What reaches the net: the crop where there is one, else the size. None where it is not square."""
    if given.get("do_center_crop") and given.get("crop_size") is not None:
        return _side(given["crop_size"])
    return _side(given.get("size")) if given.get("do_resize", True) else None


def _kept(given: Mapping[str, Any]) -> float | None:
    """The share of the shorter side that the centre crop leaves; None where the numbers do not say."""
    if isinstance(given.get("crop_pct"), float) and 0 < given["crop_pct"] <= 1:
        return float(given["crop_pct"])
    cut, whole = _side(given.get("crop_size")), _side(given.get("size"))
    return cut / whole if cut and whole and cut <= whole else None


def _side(size: Any) -> int | None:
    if isinstance(size, Mapping):
        sides = {size[key] for key in ("height", "width", "shortest_edge") if isinstance(size.get(key), int)}
        return sides.pop() if len(sides) == 1 else None
    if isinstance(size, list) and len(set(map(str, size))) == 1:
        size = size[0]
    return size if type(size) is int else None


def _notes(given: Mapping[str, Any], name: str) -> Iterator[str]:
    if given.get("do_center_crop") or given.get("crop_pct"):
        share = _kept(given)
        flag = f"--crop {share:.3g}" if share else "--crop"
        yield f"{name} was made for the middle of each image: {flag} cuts it out, else the whole image is resized."
    if given.get("do_flip_channel_order"):
        yield f"{name} takes BGR: channels are reversed for it."


def _class_names(config: Mapping[str, Any]) -> tuple[str, ...]:
    named = config.get("id2label")
    if not isinstance(named, Mapping) or set(named) != {str(i) for i in range(len(named))}:
        return ()
    names = tuple(str(named[str(i)]) for i in range(len(named)))
    made_up = all(name == f"LABEL_{i}" for i, name in enumerate(names))
    return () if made_up or len(set(names)) != len(names) else names


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
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as fault:
        raise ModelError(
            f"{path.parent.name}/{path.name} is not JSON ({str(fault)[:80]}); copy the folder again."
        ) from fault
    if not isinstance(found, dict):
        raise ModelError(f"{path.parent.name}/{path.name} holds no JSON object; copy the folder again.")
    return found


def _keys(part: Any) -> Iterator[str]:
    """Every key whose value is set, at any depth."""
    if isinstance(part, list):
        for one in part:
            yield from _keys(one)
    elif isinstance(part, dict):
        for key, value in part.items():
            if value not in (None, False, {}, []):
                yield key
            yield from _keys(value)
