"""What a run knows beside its evidence: names, origins, pictures, commands. The runner fills it in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from audit.core.note import Note


@dataclass(frozen=True)
class ModelMetadata:
    """One model: what it is and where it came from. `identity` is its fingerprint, `recipe` how it was trained here."""

    role: str
    architecture: str
    origin: Note | str
    identity: str
    parameters: int
    recipe: str | None = None
    notes: tuple[Note, ...] = ()


@dataclass(frozen=True)
class RunMetadata:
    """`gallery` uint8 (G, C, H, W) holds the first G examples of the audit order, `ids` the names of all of it.

    `trusted` are files of code as {"path", "sha256"}; `commands` give, by section name or "run", the command
    that repeats its numbers; `subject` the flags by which another command speaks of the same model and data.
    Paths are shortened to their last part when the document is built.
    """

    version: str
    data: Note | str
    classes: tuple[str, ...]
    shape: tuple[int, int, int]
    models: tuple[ModelMetadata, ...]
    gallery: NDArray[np.uint8]
    ids: tuple[str, ...]
    notes: tuple[Note, ...] = ()
    environment: Mapping[str, Any] = field(default_factory=dict)
    trusted: tuple[Mapping[str, str], ...] = ()
    commands: Mapping[str, str] = field(default_factory=dict)
    subject: str = ""
