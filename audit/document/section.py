"""What a topic's rows of the document are built with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from audit.config import RunConfig
from audit.core.evidence import Array, Finding
from audit.document.model import DocumentModel

Rows: TypeAlias = Mapping[str, Sequence[DocumentModel]]
"""By document field, its rows."""


@dataclass(frozen=True)
class SectionContext:
    """What a topic's `build` gets besides the evidence.

    Attributes:
        config: The configuration of the run.
        classes: Names of the classes, in the model's order.
        roles: Roles of the models of the run, the one under test first.
        pictures: Whether the document may hold pictures.
        findings: What the checks of the run conclude.
        images: Pixels of the first images of the audit order, uint8 (N, C, H, W); None where none were kept.
        ids: Names of the evaluation images, in the audit order.
    """

    config: RunConfig
    classes: tuple[str, ...]
    roles: tuple[str, ...]
    pictures: bool
    findings: Sequence[Finding] = ()
    images: Array | None = None
    ids: Sequence[str] = ()
