"""What loading a model gives."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

from audit.core.note import Note, note

InputShape = tuple[int, int, int]
"""(C, H, W) of the images of a model."""


@dataclass(frozen=True)
class TrustedFile:
    """Code that was run.

    Attributes:
        name: Its file name.
        sha256: SHA-256 of the bytes that ran, in hexadecimal.
    """

    name: str
    sha256: str

    def row(self) -> Mapping[str, str]:
        """The entry of the report: path and sha256."""
        return {"path": self.name, "sha256": self.sha256}


@dataclass(frozen=True)
class CheckpointContent:
    """What a checkpoint holds: a state dict or a whole module.

    Attributes:
        state: The state dict; None where there is a module.
        module: The module; None where there is a state dict alone.
        notes: Sentences that say what was unwrapped or converted.
        trusted: Code that was run.
        companions: SHA-256 of further files that the model is made of.
        cut: Whether the net has fewer channels than its architecture.
        sets: Every set of weights in the file by the entry that leads to it, as the file has them.
    """

    state: Mapping[str, Tensor] | None = None
    module: nn.Module | None = None
    notes: tuple[Note, ...] = ()
    trusted: tuple[TrustedFile, ...] = ()
    companions: tuple[str, ...] = ()
    cut: bool = False
    sets: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class LoadedModel:
    """A module ready for `ModelUnderTest`.

    Attributes:
        module: The module, in eval mode.
        identity: Hash of everything that its answers depend on.
        origin: Its file and architecture, without folders.
        notes: Sentences that say what was unwrapped, converted or inferred.
        trusted: Code that was run, {"path", "sha256"} each.
        whole: Whether the file brought its own architecture: another copy comes from copying the module.
        architecture: The name it was built by, "auto" resolved.
        cut: Whether it has fewer channels than that architecture.
        normalisation: The mean and the standard deviation that the file keeps beside its weights; empty for none.
    """

    module: nn.Module
    identity: str
    origin: str
    notes: tuple[Note, ...] = ()
    trusted: tuple[Mapping[str, str], ...] = ()
    whole: bool = False
    architecture: str = ""
    cut: bool = False
    normalisation: tuple[tuple[float, ...], ...] = ()


def channels_last_note(name: str) -> Note:
    """Say that a net takes its images as (N, H, W, C).

    Args:
        name: The file's name.
    """
    return note("model_channels_last", "{name} takes channels last: images are turned for it.", name=name)
