"""Attributions as evidence: one method on one model, on clean or on adversarial images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from audit.core.cell import Cell
from audit.core.errors import NotApplicable
from audit.core.evidence import Array, Better, Evidence, Measurement
from audit.core.note import NO_NOTE, note
from audit.core.precise import precise
from audit.core.registry import find, study
from audit.core.types import Images
from audit.execution.context import Context
from audit.execution.explanation_inputs import (
    attributions_or_raise,
    references_for,
    run_cell_method,
    segmentation_for,
    to_numpy,
)
from audit.execution.joined_images import join_images
from audit.execution.mask_reuse import sharing
from audit.execution.resumable import ResumableSteps, concatenate_steps
from audit.explanation.run import AttributionResult
from audit.masking.segmentation import joined_description
from audit.planning.parts import part_inputs
from audit.planning.settings import ExplanationSettings
from audit.results.facts import ExplanationFacts
from audit.topics.explanations.attacked import EXPLAINED_POSITIONS, adversarial_images, attacked_positions

_PIXELS_PER_STEP = 1 << 18
"""Pixels explained in one step: 334 images of 28x28, five of 224x224."""
_SCORE_BASED_FACTOR = 16
"""Factor by which a step is smaller for methods that need scores alone, about 1,000 per image: 20 of 28x28."""
NONE_BROKEN = note("none_broken", "No attack broke any of these images, so there is no adversarial one to explain.")
_QUALITY, _MAP = "quality/", "map/"
_UNDECLARED: tuple[str, Better] = ("unknown", "neither")


@study(version="2")
def explanation(context: Context, cell: Cell) -> Evidence:
    """Attributions of each example's clean prediction.

    Settings and facts: see `ExplanationSettings` and `ExplanationFacts`. Adversarial images are those of the same
    examples in the evidence that `cell.inputs["robustness"]` names, as far as an attack broke them; measurements are
    NaN elsewhere, and `explained_positions` says where arrays hold them. Segments are those of the clean image in both,
    so that maps compare. `cell.inputs["masks"]` names the explanation whose answers are spent before the model is
    asked, if any is. Inputs "part FIRST", where there are any, are evidence of `explanation_part`, which this joins.
    Arrays: attributions float32 (N, C or 1, H, W), targets int64 (N,), segments int64 where used,
    other maps by name; those of `MaskCache` where others may spend them.

    Args:
        context: Gives the model, the examples and the inputs of the cell.
        cell: The cell.
    """
    return join_images(context, cell, _joined_facts) if part_inputs(cell) else _explained(context, cell)


@study(version="2")
def explanation_part(context: Context, cell: Cell) -> Evidence:
    """The attributions of `explanation` for some of the clean images.

    Args:
        context: Gives the model, the examples and the inputs of the cell.
        cell: The cell.
    """
    return _explained(context, cell)


def _joined_facts(parts: Sequence[Evidence]) -> ExplanationFacts:
    """Those of all images: as a later step of one cell, a later part has the last word on what a method says."""
    facts: dict[str, Any] = {}
    for part in parts:
        facts |= part.facts
    of_parts = [part.facts_as(ExplanationFacts) for part in parts]
    facts["examples"] = sum(of_part.examples for of_part in of_parts)
    shared = [of_part.shared for of_part in of_parts]
    if any(shared):
        facts["shared"] = {name: sum((part or {}).get(name, 0) for part in shared) for name in shared[0] or {}}
    descriptions = [of_part.segments for of_part in of_parts if of_part.segments]
    if descriptions:
        segments = np.concatenate([part.arrays["segments"] for part in parts])
        facts["segments"] = joined_description(torch.from_numpy(segments), descriptions)
    return ExplanationFacts(**facts)


def _explained(context: Context, cell: Cell) -> Evidence:
    model, batch = context.model(), context.batch()
    clean = batch.images.to(model.device)
    settings, references = ExplanationSettings.of(cell), references_for(context, cell, clean)
    examples, positions, images = context.task.examples, None, clean
    if settings.on == "adversarial":
        attacked = context.evidence("robustness")
        positions = attacked_positions(attacked, examples)
        if not len(positions):
            return Evidence(cell, "not_applicable", reason=NONE_BROKEN)
        images = torch.from_numpy(adversarial_images(attacked, positions)).to(model.device)
        batch = batch.select(torch.from_numpy(positions - examples.start).to(batch.labels.device))
        clean = batch.images.to(model.device)
    masks = sharing(context, cell, model.device)
    size = images_per_step(cell.method, images)
    parts_of_images = [slice(start, start + size) for start in range(0, len(images), size)]
    with model.count() as counter:
        targets = model.predictions(clean) if masks.reused is None else masks.reused.targets
        segmentation = segmentation_for(cell, clean) if masks.reused is None else masks.reused.segmentation
        segments = None if segmentation is None else segmentation.segments
        steps = ResumableSteps(context, model, len(parts_of_images), f"explaining with {cell.method}")

        def explained(rows: slice) -> dict[str, Tensor]:
            part_segments = None if segments is None else segments[rows]
            queue = masks.queue(model, images[rows], targets[rows], part_segments, rows)
            result = run_cell_method(
                model,
                cell,
                images[rows],
                targets=targets[rows],
                segments=part_segments,
                ids=batch.ids[rows],
                references=references,
                queue=queue,
            )
            steps.facts |= result.facts
            return _tensors(result) | masks.step_tensors(queue)

        try:
            parts, reason = [steps.run(str(part.start), partial(explained, part)) for part in parts_of_images], NO_NOTE
        except NotApplicable as fault:  # What is not applicable to some images is to none.
            parts, reason = [], fault.reason
    facts = steps.facts | masks.facts(parts)
    if segmentation is not None:
        facts["segments"] = segmentation.description
    if references is not None:
        facts["baseline"] = note("background", "the first {count} of the explained images", count=len(references))
    inputs = {"targets": targets} | ({} if segments is None else {"segments": segments})
    arrays = {name: tensor.cpu().numpy() for name, tensor in inputs.items()} | _maps(parts) | masks.arrays(parts)
    measurements = _measurements(parts, cell.method)
    if positions is not None:
        arrays[EXPLAINED_POSITIONS] = positions
        measurements = tuple(_of_all(m, positions - examples.start, len(examples)) for m in measurements)
    return Evidence(
        cell=cell,
        status="not_applicable" if reason else "measured",
        measurements=measurements,
        arrays=arrays,
        facts=ExplanationFacts(**facts, on=settings.on, examples=len(images)).dump(),
        forwards=counter.forwards,
        backwards=counter.backwards,
        reason=reason,
    )


def images_per_step(method: str, images: Images) -> int:
    """Number of images explained in one step; between steps progress is shown and a stop takes effect.

    Args:
        method: Name of the attribution method.
        images: The images, (N, C, H, W).
    """
    slow = find("attribution", method).facts["needs"] == "scores"
    return max(1, _PIXELS_PER_STEP // (_SCORE_BASED_FACTOR if slow else 1) // images[0, 0].numel())


def _tensors(result: AttributionResult) -> dict[str, Tensor]:
    """What is kept of an answer, by name. Raises NotApplicable where there is none."""
    quality = {_QUALITY + name: precise(values) for name, values in sorted(result.quality.items())}
    return (
        quality
        | {_MAP + name: maps for name, maps in result.maps.items()}
        | {_MAP + "attributions": attributions_or_raise(result).float()}
    )


def _measurements(parts: Sequence[Mapping[str, Tensor]], method: str) -> tuple[Measurement, ...]:
    units: Mapping[str, tuple[str, Better]] = find("attribution", method).facts["quality_units"]
    return tuple(
        Measurement(name, *units.get(name, _UNDECLARED), to_numpy(values))
        for name, values in concatenate_steps(parts, _QUALITY).items()
    )


def _of_all(measurement: Measurement, rows: NDArray[np.int64], count: int) -> Measurement:
    """The measurement of some of `count` examples, NaN for the others."""
    values = np.full(count, np.nan)
    values[rows] = measurement.per_example
    return replace(measurement, per_example=values)


def _maps(parts: Sequence[Mapping[str, Tensor]]) -> dict[str, Array]:
    return {name: maps.numpy() for name, maps in concatenate_steps(parts, _MAP).items()}
