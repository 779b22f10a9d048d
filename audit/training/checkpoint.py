"""A training that can be killed anywhere: one file, replaced in one step, from which it goes on bit for bit."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor
from torch.optim import Optimizer

from audit.core.errors import ModelError, UsageError
from audit.storage.tensor_file import load_tensors, save_tensors

FILE = "checkpoint.safetensors"
_FORMAT = "3"


@dataclass(frozen=True)
class Checkpoint:
    """`tensors` by name ("weights/...", "best/...", "optimizer/0/exp_avg"); `facts` the small values beside
    them; `identity` what the training must agree on to go on from here."""

    tensors: Mapping[str, Tensor]
    facts: Mapping[str, Any]
    identity: Mapping[str, Any]

    def group(self, name: str) -> dict[str, Tensor]:
        """The tensors under `name/`, without it."""
        prefix = f"{name}/"
        return {key.removeprefix(prefix): value for key, value in self.tensors.items() if key.startswith(prefix)}

    def write(self, folder: Path) -> None:
        """Replace the checkpoint in `folder`. Raises SetupError when the disk refuses."""
        notes = {"format": _FORMAT, "facts": json.dumps(self.facts), "identity": json.dumps(self.identity)}
        save_tensors(folder / FILE, self.tensors, notes)


def load_training_checkpoint(folder: Path | None, identity: Mapping[str, Any]) -> Checkpoint | None:
    """The checkpoint in `folder`, None when there is none.

    Raises UsageError that names the settings in which it differs from `identity`, ModelError when it cannot
    be read or its checksum is wrong: one flipped bit would end in other weights without a word.
    """
    if folder is None or not (folder / FILE).exists():
        return None
    path = folder / FILE
    try:
        tensors, notes = load_tensors(path)
        facts, other = json.loads(notes["facts"]), json.loads(notes["identity"])
    except (KeyError, ValueError) as fault:
        raise ModelError(
            f"The training checkpoint {path} cannot be read ({fault}). Remove it to train from the start."
        ) from fault
    _require_same(other, json.loads(json.dumps(identity)), path)
    return Checkpoint(tensors, facts, other)


def mismatched_checkpoints(folder: Path, identity: Mapping[str, Any], *, role: str) -> Iterator[str]:
    """How each checkpoint of `role` in the folders beside `folder` differs from `identity`, in words; what cannot be
    read is nobody's to resume and is passed over."""
    for path in sorted(folder.parent.glob(f"*/{FILE}")):
        try:
            with safe_open(path, framework="pt", device="cpu") as file:
                notes = file.metadata() or {}
            facts, other = json.loads(notes["facts"]), json.loads(notes["identity"])
        except (OSError, SafetensorError, KeyError, ValueError):
            continue
        if facts.get("role") == role:
            told = _differences(other, json.loads(json.dumps(identity)))
            yield f"other settings: {told}" if told else "another architecture or start"


def optimizer_tensors(optimizer: Optimizer) -> dict[str, Tensor]:
    """The optimiser's state by "INDEX/NAME"."""
    state = optimizer.state_dict()["state"]
    return {
        f"{index}/{name}": torch.as_tensor(value, device="cpu") if not isinstance(value, Tensor) else value
        for index, values in state.items()
        for name, value in values.items()
        if value is not None
    }


def restore_optimizer(optimizer: Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Put `optimizer_tensors` back, each laid out in memory as its weight is: fused steps trust that it is."""
    weights = [weight for group in optimizer.param_groups for weight in group["params"]]
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        index, name = key.split("/", 1)
        weight = weights[int(index)]
        same_shape = value.shape == weight.shape and value.ndim > 0
        state.setdefault(int(index), {})[name] = torch.empty_like(weight).copy_(value) if same_shape else value
    optimizer.load_state_dict({**optimizer.state_dict(), "state": state})


def _require_same(found: Mapping[str, Any], wanted: Mapping[str, Any], path: Path) -> None:
    told = _differences(found, wanted)
    if told:
        raise UsageError(
            f"The training begun in {path.parent} had other settings: {told}. Give the same, or another folder."
        )


def _differences(found: Mapping[str, Any], wanted: Mapping[str, Any]) -> str:
    """The keys of two identities that differ, each with both values; "" where none does."""
    differing = sorted(key for key in {*found, *wanted} if found.get(key) != wanted.get(key))
    return ", ".join(f"{key} ({found.get(key)!r} there, {wanted.get(key)!r} now)" for key in differing)
