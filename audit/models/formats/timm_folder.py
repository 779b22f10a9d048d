"""Folders as timm saves models for the Hugging Face Hub: what their config.json says of architecture and images."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from audit.core.image_options import Interpolation, interpolation_named


@dataclass(frozen=True)
class TimmFolder:
    """What a timm folder says.

    Attributes:
        architecture: As `--architecture` takes it, "timm:NAME".
        size: Height and width in pixels; None where they differ or nothing says it.
        interpolation: The filter of resizing; None where nothing says it.
        crop: The share of the shorter side that a centre crop leaves; None for the whole image.
        mean: Subtracted from images in [0, 1], one number a channel; None where nothing says it.
        std: Divided by after that.
    """

    architecture: str
    size: int | None
    interpolation: Interpolation | None
    crop: float | None
    mean: tuple[float, ...] | None
    std: tuple[float, ...] | None

    def flags(self, weights: str) -> str:
        """The flags that audit its weights as timm prepares their images.

        Args:
            weights: The file of the weights.
        """
        words = [f"--model {weights}", f"--architecture {self.architecture}"]
        words += [f"--image-size {self.size}"] if self.size else []
        words += [f"--interpolation {self.interpolation}"] if self.interpolation else []
        words += [f"--crop {self.crop:.4g}"] if self.crop else []
        if self.mean and self.std:
            words += [f"--mean {','.join(map(str, self.mean))}", f"--std {','.join(map(str, self.std))}"]
        return " ".join(words)


def read_timm_config(config: Mapping[str, Any]) -> TimmFolder | None:
    """What a config.json says; None where it is not timm's.

    Args:
        config: Its content.
    """
    stated, name = config.get("pretrained_cfg"), config.get("architecture")
    if not isinstance(stated, Mapping) or not isinstance(name, str):
        return None
    sides = _numbers(stated.get("input_size"))
    crop = stated.get("crop_pct")
    return TimmFolder(
        architecture=f"timm:{name}",
        size=int(sides[1]) if sides and len(sides) == 3 and sides[1] == sides[2] else None,
        interpolation=interpolation_named(stated.get("interpolation")),
        crop=float(crop)
        if isinstance(crop, float) and 0 < crop <= 1 and stated.get("crop_mode", "center") == "center"
        else None,
        mean=_numbers(stated.get("mean")),
        std=_numbers(stated.get("std")),
    )


def timm_folder_beside(weights: Path) -> TimmFolder | None:
    """What the config.json beside a file of weights says; None where there is none of timm's.

    Args:
        weights: The file.
    """
    try:
        config = json.loads((weights.parent / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    return read_timm_config(config) if isinstance(config, dict) else None


def _numbers(values: Any) -> tuple[float, ...] | None:
    if not isinstance(values, Sequence) or not all(isinstance(value, int | float) for value in values):
        return None
    return tuple(float(value) for value in values) or None
