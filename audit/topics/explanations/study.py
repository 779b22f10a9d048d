"""Attributions as evidence: one method on one model, on clean or on adversarial images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

import numpy as np
import torch
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
from audit.execution.mask_reuse import sharing
from audit.execution.resumable import ResumableSteps, concatenate_steps
from audit.explanation.run import AttributionResult
from audit.planning.settings import ExplanationSettings
from audit.results.facts import ExplanationFacts
from audit.topics.robustness.facts import ADVERSARIAL_POSITIONS

_PIXELS_PER_STEP = 1 << 18
"""Pixels explained in one step: 334 images of 28x28, five of 224x224."""
_SCORE_BASED_FACTOR = 16
"""Factor by which a step is smaller for methods that need scores alone, about 1,000 per image: 20 of 28x28."""
_QUALITY, _MAP = "quality/", "map/"
_UNDECLARED: tuple[str, Better] = ("unknown", "neither")


@study()
def explanation(context: Context, cell: Cell) -> Evidence:
    """Attributions of each example's clean prediction.

    Settings and facts: see `ExplanationSettings` and `ExplanationFacts`. Adversarial images are those of the same
    examples in the evidence that `cell.inputs["robustness"]` names. Segments are those of the clean image in both, so
    that maps compare. `cell.inputs["masks"]` names the explanation whose answers are spent before the model is asked,
    if any is. Arrays: attributions float32 (N, C or 1, H, W), targets int64 (N,), segments int64 where used, other maps
    by name; those of `MaskCache` where others may spend them.

    Args:
        context: Gives the model, the examples and the inputs of the cell.
        cell: The cell.
    """
    model, batch = context.model(), context.batch()
    clean = batch.images.to(model.device)
    settings, references = ExplanationSettings.of(cell), references_for(cell, clean)
    images = _adversarial(context, clean) if settings.on == "adversarial" else clean
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
    return Evidence(
        cell=cell,
        status="not_applicable" if reason else "measured",
        measurements=_measurements(parts, cell.method),
        arrays={name: tensor.cpu().numpy() for name, tensor in inputs.items()} | _maps(parts) | masks.arrays(parts),
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


def _adversarial(context: Context, clean: Images) -> Images:
    """The adversarial images of the task's examples. Raises NotApplicable where some were not stored."""
    arrays, examples = context.evidence("robustness").arrays, context.task.examples
    stored = arrays["adversarial"]
    positions = arrays.get(ADVERSARIAL_POSITIONS, np.arange(len(stored)))  # earlier evidence holds the first images
    rows = {position: row for row, position in enumerate(positions.tolist())}
    needed = range(examples.start, examples.stop)
    if missing := [position for position in needed if position not in rows]:
        raise NotApplicable(
            f"The attacks stored no adversarial image of {len(missing)} of these {len(needed)} examples (the first is "
            f"number {missing[0]} of the audit order); run the attacks on them too."
        )
    images = stored[[rows[position] for position in needed]]
    return torch.from_numpy(images).to(clean.device, clean.dtype)


def _measurements(parts: Sequence[Mapping[str, Tensor]], method: str) -> tuple[Measurement, ...]:
    units: Mapping[str, tuple[str, Better]] = find("attribution", method).facts["quality_units"]
    return tuple(
        Measurement(name, *units.get(name, _UNDECLARED), to_numpy(values))
        for name, values in concatenate_steps(parts, _QUALITY).items()
    )


def _maps(parts: Sequence[Mapping[str, Tensor]]) -> dict[str, Array]:
    return {name: maps.numpy() for name, maps in concatenate_steps(parts, _MAP).items()}
