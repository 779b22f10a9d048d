"""AttributionResult as evidence: one attribution method on one model, on clean or on adversarial images."""

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

_LOOKED_UP = 1 << 18
"""Pixels explained at a stretch: 334 images of 28x28, five of 224x224."""
_MANY_PASSES = 16
"""By how much fewer for a method that asks for scores alone, a thousand an image: 20 of 28x28, one of 128x128."""
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
    """
    model, batch = context.model(), context.batch()
    clean = batch.images.to(model.device)
    settings, references = ExplanationSettings.of(cell), references_for(cell, clean)
    images = _adversarial(context, clean) if settings.on == "adversarial" else clean
    masks = sharing(context, cell, model.device)
    size = together(cell.method, images)
    stretches = [slice(start, start + size) for start in range(0, len(images), size)]
    with model.count() as spent:
        targets = model.predictions(clean) if masks.reused is None else masks.reused.targets
        made = segmentation_for(cell, clean) if masks.reused is None else masks.reused.segmentation
        segments = None if made is None else made.segments
        steps = ResumableSteps(context, model, len(stretches), f"explaining with {cell.method}")

        def explained(part: slice) -> dict[str, Tensor]:
            those = None if segments is None else segments[part]
            queue = masks.queue(model, images[part], targets[part], those, part)
            answer = run_cell_method(
                model,
                cell,
                images[part],
                targets=targets[part],
                segments=those,
                ids=batch.ids[part],
                references=references,
                queue=queue,
            )
            steps.facts |= answer.facts
            return _tensors(answer) | masks.step_tensors(queue)

        try:
            parts, reason = [steps.run(str(part.start), partial(explained, part)) for part in stretches], NO_NOTE
        except NotApplicable as fault:  # What is not applicable to some images is to none.
            parts, reason = [], fault.reason
    facts = steps.facts | masks.facts(parts)
    if made is not None:
        facts["segments"] = made.description
    if references is not None:
        facts["baseline"] = note("background", "the first {count} of the explained images", count=len(references))
    asked = {"targets": targets} | ({} if segments is None else {"segments": segments})
    return Evidence(
        cell=cell,
        status="not_applicable" if reason else "measured",
        measurements=_measurements(parts, cell.method),
        arrays={name: tensor.cpu().numpy() for name, tensor in asked.items()} | _maps(parts) | masks.arrays(parts),
        facts=ExplanationFacts(**facts, on=settings.on, examples=len(images)).dump(),
        forwards=spent.forwards,
        backwards=spent.backwards,
        reason=reason,
    )


def together(method: str, images: Images) -> int:
    """How many images are explained before anybody looks up: a stop takes effect and progress shows in between."""
    slow = find("attribution", method).facts["needs"] == "scores"
    return max(1, _LOOKED_UP // (_MANY_PASSES if slow else 1) // images[0, 0].numel())


def _tensors(found: AttributionResult) -> dict[str, Tensor]:
    """What is kept of an answer, by name. Raises NotApplicable where there is none."""
    quality = {_QUALITY + name: values.double() for name, values in sorted(found.quality.items())}
    return (
        quality
        | {_MAP + name: maps for name, maps in found.maps.items()}
        | {_MAP + "attributions": attributions_or_raise(found).float()}
    )


def _adversarial(context: Context, clean: Images) -> Images:
    """The adversarial images of the task's examples. Raises NotApplicable where some were not stored."""
    arrays, examples = context.evidence("robustness").arrays, context.task.examples
    stored = arrays["adversarial"]
    places = arrays.get(ADVERSARIAL_POSITIONS, np.arange(len(stored)))  # earlier evidence holds the first images
    rows = {place: row for row, place in enumerate(places.tolist())}
    wanted = range(examples.start, examples.stop)
    if missing := [place for place in wanted if place not in rows]:
        raise NotApplicable(
            f"The attacks stored no adversarial image of {len(missing)} of these {len(wanted)} examples (the first is "
            f"number {missing[0]} of the audit order); run the attacks on them too."
        )
    images = stored[[rows[place] for place in wanted]]
    return torch.from_numpy(images).to(clean.device, clean.dtype)


def _measurements(parts: Sequence[Mapping[str, Tensor]], method: str) -> tuple[Measurement, ...]:
    units: Mapping[str, tuple[str, Better]] = find("attribution", method).facts["quality_units"]
    return tuple(
        Measurement(name, *units.get(name, _UNDECLARED), to_numpy(values))
        for name, values in concatenate_steps(parts, _QUALITY).items()
    )


def _maps(parts: Sequence[Mapping[str, Tensor]]) -> dict[str, Array]:
    return {name: maps.numpy() for name, maps in concatenate_steps(parts, _MAP).items()}
