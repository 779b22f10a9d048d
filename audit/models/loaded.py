"""What loading needs to know of the configuration's [model], and what it gives back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor, nn

InputShape = tuple[int, int, int]
"""(C, H, W) of the images of a model."""


@dataclass(frozen=True)
class TrustedFile:
    """Code that was run: its file name and the SHA-256 of the bytes that ran."""

    name: str
    sha256: str

    def row(self) -> Mapping[str, str]:
        """As the report records it."""
        return {"path": self.name, "sha256": self.sha256}


@dataclass(frozen=True)
class CheckpointContent:
    """What a checkpoint holds: a state dict, or a whole module; `notes` say what was unwrapped or converted;
    `companions` are the SHA-256 of further files it is made of; `cut` when the file says that its net has fewer
    channels than its architecture."""

    state: Mapping[str, Tensor] | None = None
    module: nn.Module | None = None
    notes: tuple[str, ...] = ()
    trusted: tuple[TrustedFile, ...] = ()
    companions: tuple[str, ...] = ()
    cut: bool = False


@dataclass(frozen=True)
class LoadedModel:
    """A module ready for `ModelUnderTest`. `identity` hashes everything its answers depend on; `origin` names files
    without their folders; `trusted` lists the code that ran, {"path", "sha256"} each; `whole` when the file brought
    its own architecture, so that another copy of it comes from copying the module; `architecture` the name it was
    built by, auto resolved; `cut` when it has fewer channels than that architecture."""

    module: nn.Module
    identity: str
    origin: str
    notes: tuple[str, ...] = ()
    trusted: tuple[Mapping[str, str], ...] = ()
    whole: bool = False
    architecture: str = ""
    cut: bool = False
