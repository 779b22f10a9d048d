"""What the studies of explanations share: a cell's method on images, and the inputs that it needs."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from audit.core.cell import Cell
from audit.core.errors import NotApplicable
from audit.core.evidence import Array, Evidence
from audit.core.note import note
from audit.core.registry import find
from audit.core.types import Attributions, Images, Labels, Segments
from audit.execution.context import Context
from audit.explanation.run import AttributionResult, explain_images
from audit.explanation.spec import uses_segments
from audit.masking.queue import MaskQueue
from audit.masking.segmentation import Segmentation, segment_images
from audit.models.under_test import ModelUnderTest
from audit.planning.parts import is_part
from audit.planning.plan import Slice
from audit.planning.settings import ExplanationSettings

NOTHING_TO_JUDGE = note("no_explanation", "There is no explanation to judge.")


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
    counts: Tensor | None = None,
) -> AttributionResult:
    """Explain images by the cell's method, with the settings, output and baseline that the cell names.

    Args:
        model: The model to explain.
        cell: Names the method, its settings and the seed.
        images: Images (N, C, H, W) in [0, 1].
        targets: The classes to explain, int64 (N,).
        segments: Segments of the images, int64 (N, H, W), for methods that need them.
        ids: The ids of the images, which seed their draws.
        references: Images (M, C, H, W) in [0, 1] for methods that average over a background.
        seed: In place of the cell's seed.
        queue: Answers masked images, for methods that ask them.
        counts: How many samples each image gets, int64 (N,), see `sample_counts`.

    Returns:
        The maps, or the reason why there are none.
    """
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
        counts=counts,
        **settings.method,
    )


def sample_counts(explained: Evidence) -> Tensor | None:
    """How many samples each map of an explanation rests on, int64 (N,); None where no precision decided it.

    A map that is compared with one of these gets as many, the same ones where the draws are the same: or what one of
    the two was sampled longer passes for a difference.

    Args:
        explained: The explanation.
    """
    if ExplanationSettings.of(explained.cell).method.get("precision") is None:
        return None
    for measurement in explained.measurements:
        if measurement.name == "samples":
            return torch.from_numpy(np.asarray(measurement.per_example, dtype=np.int64))
    return None


def attributions_or_raise(result: AttributionResult) -> Attributions:
    """Give the maps of a result.

    Args:
        result: What a method gave.

    Returns:
        Maps (N, C or 1, H, W).

    Raises:
        NotApplicable: When there are none, with the method's reason.
    """
    if result.attributions is None:
        raise NotApplicable(result.reason)
    return result.attributions


def references_for(context: Context, cell: Cell, clean: Images) -> Images | None:
    """Select the background of a method that averages over images: the first of the clean ones.

    Args:
        context: Gives the first images of the audit order, which are those of a part.
        cell: Says how many.
        clean: Clean images (N, C, H, W).

    Returns:
        Images (M, C, H, W); None where the cell wants none or there are fewer than it wants: the method then takes its
        baseline alone.
    """
    count = ExplanationSettings.of(cell).references
    if count and is_part(cell):
        return context.others(Slice(context.task.examples.split, 0, count)).images.to(clean.device)
    return clean[:count] if 0 < count <= len(clean) else None


def segments_for(cell: Cell, clean: Images) -> Segments | None:
    """Segment the clean images, whose segments also hold for perturbed copies, so that their maps compare.

    Args:
        cell: Names the method and its baseline.
        clean: Clean images (N, C, H, W) in [0, 1].

    Returns:
        Segments, int64 (N, H, W); None where the cell's method needs none.
    """
    segmentation = segmentation_for(cell, clean)
    return None if segmentation is None else segmentation.segments


def segmentation_for(cell: Cell, clean: Images) -> Segmentation | None:
    """Segment the clean images as `segments_for` does.

    Args:
        cell: Names the method and its baseline.
        clean: Clean images (N, C, H, W) in [0, 1].

    Returns:
        The segments and how they were made; None where the cell's method needs none.
    """
    method, settings = find("attribution", cell.method), ExplanationSettings.of(cell)
    fill = method.facts.get("baseline") if settings.baseline is None else settings.baseline
    by_segment = uses_segments(method, settings.method)
    return segment_images(clean) if by_segment or fill == "segment-mean" else None


def load_array(evidence: Evidence, name: str, device: torch.device) -> Tensor:
    """Read an array of earlier evidence.

    Args:
        evidence: The evidence.
        name: The name of the array.
        device: Where the tensor is to be.

    Returns:
        A copy of the array as a tensor.

    Raises:
        NotApplicable: Where the evidence was not measured.
    """
    if evidence.status != "measured":
        raise NotApplicable(
            evidence.reason
            or note(
                "no_evidence",
                "There is no {study} of {method} to read.",
                study=evidence.cell.study,
                method=evidence.cell.method,
            )
        )
    return torch.from_numpy(evidence.arrays[name].copy()).to(device)


def to_numpy(values: Tensor) -> Array:
    """Convert one number an example to NumPy.

    Args:
        values: Numbers (N,), on any device.

    Returns:
        float64 (N,).
    """
    return np.asarray(values.detach().cpu().double().numpy())
