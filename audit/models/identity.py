"""The name of a model by what its answers depend on: hashes of its files and its settings. No torch."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from audit.models.files import require_file, sha256_of
from audit.models.formats.hf_config import folder_hash, is_folder

if TYPE_CHECKING:
    from audit.config import ModelConfig

VERSION = 1
"""Raised when the same files are read into another model."""


def model_identity(
    config: ModelConfig, *, classes: tuple[str, ...], input_shape: tuple[int, int, int], seed: int
) -> str:
    """SHA-256 over the bytes of the weights and of the user's code, the architecture's name, the normalisation, the
    classes and the image shape; `seed` only where the weights are not loaded. Raises ModelError for a missing file."""
    file = config.architecture.rpartition(":")[0]
    code = sha256_of(require_file(file)) if file.endswith(".py") else ""
    architecture = config.architecture.rpartition(":")[2] if code else config.architecture
    weights = _weights_hash(config.weights) if config.weights else f"seed {seed}"
    parts = (VERSION, architecture, code, weights, config.mean, config.std, tuple(classes), tuple(input_shape))
    return hashlib.sha256(repr(parts).encode()).hexdigest()


def _weights_hash(weights: str) -> str:
    return folder_hash(weights) if is_folder(weights) else sha256_of(require_file(weights))


def with_companions(identity: str, companions: tuple[str, ...]) -> str:
    """`identity` together with the SHA-256 of the files a model keeps beside its own."""
    return hashlib.sha256(repr((identity, companions)).encode()).hexdigest() if companions else identity
