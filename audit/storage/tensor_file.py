"""Tensors and short texts in one safetensors file with a checksum, replaced in one step."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as serialize_tensors
from torch import Tensor

from audit.storage.store import write_atomically

_CHECKSUM = "sha256"


def save_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Replace the file at `path`, a safetensors file with a checksum among its metadata.

    Args:
        path: The file; its folder is made where it is missing.
        tensors: Tensors of any shape, dtype and device, by name.
        metadata: Texts to keep beside them, by name; "sha256" is reserved.

    Raises:
        SetupError: When the disk refuses.
    """
    on_cpu = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    write_atomically(path, serialize_tensors(on_cpu, metadata={**metadata, _CHECKSUM: _digest(on_cpu, metadata)}))


def load_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Read what `save_tensors` wrote.

    Args:
        path: The file.

    Returns:
        The tensors, on the CPU, and the metadata without the checksum.

    Raises:
        ValueError: When the file is missing or is not as it was written; the message says how.
    """
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            metadata = dict(file.metadata() or {})
            tensors = {name: file.get_tensor(name) for name in file.keys()}
    except (OSError, SafetensorError) as fault:
        raise ValueError(str(fault)) from fault
    if metadata.pop(_CHECKSUM, None) != _digest(tensors, metadata):
        raise ValueError("its checksum is wrong")
    return tensors, metadata


def load_metadata(path: Path) -> dict[str, str]:
    """Read the metadata of a file that `save_tensors` wrote, without its tensors and without testing its checksum.

    Args:
        path: The file.

    Returns:
        The metadata without the checksum.

    Raises:
        ValueError: When the file is missing or is no safetensors file.
    """
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            metadata = dict(file.metadata() or {})
    except (OSError, SafetensorError) as fault:
        raise ValueError(str(fault)) from fault
    metadata.pop(_CHECKSUM, None)
    return metadata


def _digest(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> str:
    """The sha256, in hex, of the metadata and of each tensor's name, dtype, shape and bytes."""
    digest = hashlib.sha256(json.dumps(sorted(metadata.items())).encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(json.dumps([name, str(tensor.dtype), list(tensor.shape)]).encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
