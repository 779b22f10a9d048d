"""What a checkpoint written here says of itself: architecture, classes and normalisation, in its header."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from safetensors import SafetensorError, safe_open

from audit.config import ModelConfig
from audit.errors import ModelError


def with_header(model: ModelConfig, classes: Sequence[str]) -> ModelConfig:
    """`model` with the header's architecture, mean and std where it names none itself.

    Raises ModelError when the header names other classes than the data has. A file without such a header, or
    of another format, changes nothing.
    """
    header = _header(model.weights)
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


def _header(weights: str | None) -> dict[str, str]:
    if weights is None or Path(weights).suffix != ".safetensors":
        return {}
    try:
        with safe_open(weights, framework="np") as file:
            return file.metadata() or {}
    except (SafetensorError, OSError):
        # The reader of the format says what is wrong with the file.
        return {}
