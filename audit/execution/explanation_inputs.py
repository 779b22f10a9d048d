"""What the studies of explanations share: asking a cell's method about images, with the cell's own settings."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from audit.core.cell import Cell
from audit.core.errors import NotApplicable
from audit.core.evidence import Array, Evidence
from audit.core.registry import find
from audit.core.types import Attributions, Images, Labels, Segments
from audit.explanation.run import AttributionResult, explain_images
from audit.explanation.spec import uses_segments
from audit.masking.queue import MaskQueue
from audit.masking.segmentation import Segmentation, segment_images
from audit.models.under_test import ModelUnderTest
from audit.planning.settings import ExplanationSettings


def run_cell_method(
    model: ModelUnderTest,
    cell: Cell,
    images: Images,
    *,
    targets: Labels,
    segments: Segments | None,
    ids: Sequence[str],
    references: Images | None = None,
    seed: int | None = None,
    queue: MaskQueue | None = None,
) -> AttributionResult:
    """The cell's method on `images`, with the settings, output and baseline the cell names."""
    settings = ExplanationSettings.of(cell)
    return explain_images(
        model,
        images,
        method=cell.method,
        targets=targets,
        output=settings.output,
        baseline=settings.baseline,
        segments=segments,
        references=references,
        seed=cell.seed if seed is None else seed,
        ids=ids,
        queue=queue,
        **settings.method,
    )


def attributions_or_raise(found: AttributionResult) -> Attributions:
    """The maps. Raises NotApplicable with the method's reason where there are none."""
    if found.attributions is None:
        raise NotApplicable(found.reason)
    return found.attributions


def references_for(cell: Cell, clean: Images) -> Images | None:
    """The background of a method that averages over images: the first of the clean ones, as many as the cell's
    settings say; None, and the baseline stands alone, where it says none or there are fewer."""
    count = ExplanationSettings.of(cell).references
    return clean[:count] if 0 < count <= len(clean) else None


def segments_for(cell: Cell, clean: Images) -> Segments | None:
    """The clean image's own segments where the cell's method needs any, so that maps of moved images compare."""
    made = segmentation_for(cell, clean)
    return None if made is None else made.segments


def segmentation_for(cell: Cell, clean: Images) -> Segmentation | None:
    """`segments_for` with how they were made."""
    method, settings = find("attribution", cell.method), ExplanationSettings.of(cell)
    fill = method.facts.get("baseline") if settings.baseline is None else settings.baseline
    by_segment = uses_segments(method, settings.method)
    return segment_images(clean) if by_segment or fill == "segment-mean" else None


def load_array(evidence: Evidence, name: str, device: torch.device) -> Tensor:
    """An array of earlier evidence as a tensor. Raises NotApplicable where the evidence was not measured."""
    if evidence.status != "measured":
        raise NotApplicable(evidence.reason or f"There is no {evidence.cell.study} of {evidence.cell.method} to read.")
    return torch.from_numpy(evidence.arrays[name].copy()).to(device)


def to_numpy(values: Tensor) -> Array:
    """One float64 number an example."""
    return np.asarray(values.detach().double().cpu().numpy())
