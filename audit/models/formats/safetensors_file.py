"""Safetensors: a header and numbers, nothing that runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load as parse

from audit.config import TrustConfig
from audit.core.errors import ModelError
from audit.models.compression.compress import unpack
from audit.models.files import read_whole
from audit.models.formats.safetensors_header import CUT, metadata_of
from audit.models.loaded import CheckpointContent
from audit.models.state_dict import unwrapped


def read(path: Path, trust: Sequence[TrustConfig]) -> CheckpointContent:
    """The state dict of a .safetensors file, on the CPU, int8 weights as float32. Raises ModelError when damaged."""
    body = read_whole(path)
    try:
        state = parse(body)
    except (SafetensorError, ValueError, KeyError, TypeError) as fault:
        raise ModelError(
            f"{path.name} is not a whole safetensors file ({fault}); export or download it again."
        ) from fault
    return replace(unwrapped(unpack(state), path.name), cut=CUT in metadata_of(body))
