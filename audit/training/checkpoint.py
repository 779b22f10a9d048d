"""The checkpoint of a training: one file from which a killed training goes on bit for bit."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from audit.core.errors import ModelError, UsageError
from audit.storage.checkpoint import load_checkpoint, load_checkpoint_values, save_checkpoint

FILE = "checkpoint.safetensors"
MEMORY = "memory/"
"""Before the number of a share, the prefix of what the recipe keeps of it."""
_FORMAT = 3
"""Raised when the names of tensors or facts change; checkpoints of another format are refused."""


@dataclass(frozen=True)
class TrainingCheckpoint:
    """All that a training needs to go on.

    Attributes:
        tensors: Tensors by name: "weights/...", "best/...", "optimizer/0/exp_avg" and so on.
        facts: Small JSON values beside them.
        identity: JSON values that the training must agree with to go on from here.
    """

    tensors: Mapping[str, Tensor]
    facts: Mapping[str, Any]
    identity: Mapping[str, Any]

    def group(self, name: str) -> dict[str, Tensor]:
        """Select the tensors under a prefix.

        Args:
            name: The prefix, without its slash.

        Returns:
            The tensors, by their names without the prefix.
        """
        prefix = f"{name}/"
        return {key.removeprefix(prefix): value for key, value in self.tensors.items() if key.startswith(prefix)}

    def without_memories_but(self, shares: Collection[int]) -> TrainingCheckpoint:
        """Leave out what the recipe keeps of other shares of a batch.

        Args:
            shares: The shares to keep.
        """
        kept = {f"{MEMORY}{share}/" for share in shares}
        tensors = {
            name: value
            for name, value in self.tensors.items()
            if not name.startswith(MEMORY) or any(name.startswith(prefix) for prefix in kept)
        }
        return replace(self, tensors=tensors)

    def write(self, folder: Path) -> None:
        """Replace the checkpoint in `folder`.

        Args:
            folder: The folder, made where it is missing.

        Raises:
            SetupError: When the disk refuses.
        """
        save_checkpoint(folder / FILE, self.tensors, format=_FORMAT, facts=self.facts, identity=self.identity)


def load_training_checkpoint(folder: Path | None, identity: Mapping[str, Any]) -> TrainingCheckpoint | None:
    """Read the checkpoint in `folder`.

    Args:
        folder: The folder; None for a training that keeps no checkpoint.
        identity: The identity of the training that means to go on.

    Returns:
        The checkpoint; None where there is none.

    Raises:
        UsageError: When it differs from `identity`; the message names the settings.
        ModelError: When it cannot be read, its checksum is wrong, or another version of audit wrote it in another
            format: a damaged one would end in other weights without a word.
    """
    if folder is None or not (folder / FILE).exists():
        return None
    path = folder / FILE
    try:
        tensors, values = load_checkpoint(path)
        facts, stored_identity, file_format = values["facts"], values["identity"], values["format"]
    except (KeyError, ValueError) as fault:
        raise ModelError(
            f"The training checkpoint {path} cannot be read ({fault}). Remove it to train from the start."
        ) from fault
    if file_format != _FORMAT:
        raise ModelError(
            f"The training checkpoint {path} has format {file_format}, and this version of audit reads {_FORMAT}. "
            "Remove it to train from the start."
        )
    differences = _differences(stored_identity, identity)
    if differences:
        raise UsageError(
            f"The training begun in {path.parent} had other settings: {differences}. Give the same, or another folder."
        )
    return TrainingCheckpoint(tensors, facts, stored_identity)


def mismatched_checkpoints(folder: Path, identity: Mapping[str, Any], *, role: str) -> Iterator[str]:
    """Describe the checkpoints of a role in the folders beside `folder`, which other settings have left unfinished.

    Args:
        folder: The folder of the training that begins.
        identity: The identity of that training.
        role: The role of its model in the run.

    Yields:
        For each checkpoint how it differs from `identity`, in words; files that cannot be read are passed over.
    """
    for path in sorted(folder.parent.glob(f"*/{FILE}")):
        try:
            values = load_checkpoint_values(path)
            facts, stored_identity = values["facts"], values["identity"]
        except (KeyError, ValueError):
            continue
        if facts.get("role") == role:
            differences = _differences(stored_identity, identity)
            yield f"other settings: {differences}" if differences else "another architecture or start"


def optimizer_tensors(optimizer: Optimizer) -> dict[str, Tensor]:
    """Flatten the state of an optimiser.

    Args:
        optimizer: The optimiser.

    Returns:
        Its tensors and numbers, as tensors, by "INDEX OF THE WEIGHT/NAME".
    """
    state = optimizer.state_dict()["state"]
    return {
        f"{index}/{name}": torch.as_tensor(value, device="cpu") if not isinstance(value, Tensor) else value
        for index, values in state.items()
        for name, value in values.items()
        if value is not None
    }


def restore_optimizer(optimizer: Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Put the tensors of `optimizer_tensors` back.

    Each is laid out in memory as its weight is: fused steps trust that it is.

    Args:
        optimizer: An optimiser of the same kind over the same weights.
        tensors: What `optimizer_tensors` gave.
    """
    weights = [weight for group in optimizer.param_groups for weight in group["params"]]
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        index, name = key.split("/", 1)
        weight = weights[int(index)]
        same_shape = value.shape == weight.shape and value.ndim > 0
        state.setdefault(int(index), {})[name] = torch.empty_like(weight).copy_(value) if same_shape else value
    optimizer.load_state_dict({**optimizer.state_dict(), "state": state})


def _differences(stored: Mapping[str, Any], identity: Mapping[str, Any]) -> str:
    """The keys of two identities that differ, each with both values; "" where none does."""
    current = json.loads(json.dumps(identity))
    differing = sorted(key for key in {*stored, *current} if stored.get(key) != current.get(key))
    return ", ".join(f"{key} ({stored.get(key)!r} there, {current.get(key)!r} now)" for key in differing)
