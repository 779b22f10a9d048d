"""Tensors and short texts in one file, replaced in one step, that is either whole or known to be damaged."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as pack
from torch import Tensor

from audit.storage.store import write_atomically

_SEAL = "sha256"


def save_tensors(path: Path, tensors: Mapping[str, Tensor], notes: Mapping[str, str]) -> None:
    """Replace the file at `path` (safetensors, `notes` its metadata). Raises SetupError when the disk refuses."""
    kept = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    write_atomically(path, pack(kept, metadata={**notes, _SEAL: _digest(kept, notes)}))


def load_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors, on the CPU, and the notes. Raises ValueError, with the reason, for what is not as it was written."""
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            notes = dict(file.metadata() or {})
            tensors = {name: file.get_tensor(name) for name in file.keys()}
    except (OSError, SafetensorError) as fault:
        raise ValueError(str(fault)) from fault
    if notes.pop(_SEAL, None) != _digest(tensors, notes):
        raise ValueError("its checksum is wrong")
    return tensors, notes


def _digest(tensors: Mapping[str, Tensor], notes: Mapping[str, str]) -> str:
    """The sha256, in hex, of `notes` and of each tensor's name, type, shape and bytes."""
    digest = hashlib.sha256(json.dumps(sorted(notes.items())).encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(json.dumps([name, str(tensor.dtype), list(tensor.shape)]).encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
