"""The identity of a model: a hash of its files and settings, all that its answers depend on. Without torch."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from audit.models.files import require_file, sha256_of
from audit.models.formats.hf_config import folder_hash, is_folder

if TYPE_CHECKING:
    from audit.config import ModelConfig

_CHOICES = ("weights_entry", "outputs", "output_entry")
"""Keys that change how the same files are read; those that a user leaves alone are not part of the hash."""
VERSION = 1
"""Raised when the same files are read into another model."""


def model_identity(
    config: ModelConfig, *, classes: tuple[str, ...], input_shape: tuple[int, int, int], seed: int
) -> str:
    """Hash what the model's answers depend on. Raises ModelError for a missing file.

    Args:
        config: The [model] table: weights and the user's code by their bytes, the architecture, the normalisation.
        classes: Names in the order of the outputs.
        input_shape: (C, H, W) of the images.
        seed: Root of fresh weights; hashed only where no weights are loaded.

    Returns:
        SHA-256 in hexadecimal.
    """
    file = config.architecture.rpartition(":")[0]
    code = sha256_of(require_file(file)) if file.endswith(".py") else ""
    architecture = config.architecture.rpartition(":")[2] if code else config.architecture
    weights = _weights_hash(config.weights) if config.weights else f"seed {seed}"
    fields = (VERSION, architecture, code, weights, config.mean, config.std, tuple(classes), tuple(input_shape))
    chosen = tuple((key, getattr(config, key)) for key in _CHOICES if key in config.model_fields_set)
    return hashlib.sha256(repr((*fields, *chosen)).encode()).hexdigest()


def _weights_hash(weights: str) -> str:
    return folder_hash(weights) if is_folder(weights) else sha256_of(require_file(weights))


def with_companions(identity: str, companions: tuple[str, ...]) -> str:
    """An identity that covers the files a model keeps beside its own.

    Args:
        identity: The model's.
        companions: SHA-256 of each further file.
    """
    return hashlib.sha256(repr((identity, companions)).encode()).hexdigest() if companions else identity
