"""What a run knows besides its evidence: names, origins, images and commands."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from audit.core.note import Note
from audit.core.pass_count import PassCount


@dataclass(frozen=True)
class ModelMetadata:
    """One model of the run.

    Attributes:
        role: Its role, such as "standard".
        architecture: Name of its architecture.
        origin: Where it comes from: a file, a package, or training in this run.
        identity: Fingerprint of its weights and preprocessing.
        parameters: Number of weights.
        recipe: The recipe it was trained by here; None where it was not.
        notes: What the reader should know of it.
    """

    role: str
    architecture: str
    origin: Note | str
    identity: str
    parameters: int
    recipe: str | None = None
    notes: tuple[Note, ...] = ()


@dataclass(frozen=True)
class RunMetadata:
    """A run besides its evidence. Absolute paths are cut when the document is built.

    Attributes:
        version: Version of the program.
        data: Description of the data set.
        classes: Names of the classes, in the model's order.
        shape: Channels, height and width of an image.
        models: The models of the run, the one under test first.
        gallery: The first G images of the audit order, uint8 (G, C, H, W).
        ids: Name of each evaluation image, in the audit order.
        notes: What the reader should know of the data.
        environment: Versions, device and platform.
        trusted: Files of code that the user trusted, as {"path", "sha256"}.
        commands: By section or "run", the command that reproduces its numbers.
        subject: Command line flags that name the same model and data.
        most_passes: By key of a cell that the run did not compute, what it costs at most; None where that is not known.
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
    most_passes: Mapping[str, PassCount | None] = field(default_factory=dict)
