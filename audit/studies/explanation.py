"""Explanations as evidence: one attribution method on one model, on clean or on adversarial images."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch

from audit.attributions.explain import Explanations
from audit.cell import Cell
from audit.errors import Interrupted
from audit.evidence import Array, Evidence, Measurement
from audit.registry import study
from audit.studies.context import Context
from audit.studies.explaining import ask, references_for, segmentation_for
from audit.studies.shared_masks import sharing
from audit.types import Images

_LOOKED_UP = 1 << 18
"""Pixels explained at a stretch: 334 images of 28x28, five of 224x224."""
_UNITS = {
    "r2": ("share", "higher"),
    "closed": ("share", "higher"),
    "completeness_error": ("share", "lower"),
    "completeness_residual": ("output", "lower"),
    "efficiency_residual": ("output", "lower"),
    "path_error": ("share", "lower"),
    "standard_error": ("output", "lower"),
    "steps": ("count", "neither"),
}


@study()
def explanation(context: Context, cell: Cell) -> Evidence:
    """Attributions of each example's clean prediction.

    `cell.settings`: `method` (its settings), `output`, `baseline`, `references` (how many of the clean images are the
    background of a method that averages over some), `on` (clean or adversarial: the images kept by the
    robustness evidence named in `cell.inputs`). Segments are those of the clean image in both, so that maps compare.
    `cell.inputs["masks"]` names the explanation whose answers are spent before the model is asked, if any is.
    Arrays: attributions float32 (N, C or 1, H, W), targets int64 (N,), segments int64 where used, other maps by name;
    those of `Answers` where others may spend them.
    """
    model, batch = context.model(), context.batch()
    clean = batch.images.to(model.device)
    images = _adversarial(context, clean) if cell.settings.get("on", "clean") == "adversarial" else clean
    references = references_for(cell, clean)
    clean, ids = clean[: len(images)], batch.ids[: len(images)]
    masks = sharing(context, cell, model.device)
    with model.count() as spent:
        targets = model.predictions(clean) if masks.lent is None else masks.lent.targets
        made = segmentation_for(cell, clean) if masks.lent is None else masks.lent.made
        segments = None if made is None else made.segments

        def explained(part: slice) -> Explanations:
            those = None if segments is None else segments[part]
            queue = masks.queue(model, images[part], targets[part], those, part)
            answer = ask(
                model,
                cell,
                images[part],
                targets=targets[part],
                segments=those,
                ids=ids[part],
                references=references,
                queue=queue,
            )
            masks.asked(queue)
            return answer

        found = _one_after_another(context, cell, images, explained)
    facts = dict(found.facts) | {"on": cell.settings.get("on", "clean"), "examples": len(images)} | masks.facts()
    if made is not None:
        facts["segments"] = made.words
    if references is not None:
        facts["baseline"] = f"the first {len(references)} of the explained images"
    return Evidence(
        cell=cell,
        status=found.status,
        measurements=_measurements(found),
        arrays=_arrays(found) | masks.arrays(),
        facts=facts,
        forwards=spent.passes.forwards,
        backwards=spent.passes.backwards,
        reason=found.reason,
    )


def together(images: Images) -> int:
    """How many images are explained before anybody looks up: a stop takes effect and progress shows in between."""
    return max(1, _LOOKED_UP // images[0, 0].numel())


def _one_after_another(
    context: Context, cell: Cell, images: Images, explained: Callable[[slice], Explanations]
) -> Explanations:
    parts: list[Explanations] = []
    for start in range(0, len(images), together(images)):
        if context.stopping():
            raise Interrupted(f"Stopped while explaining with {cell.method}; the same command resumes.")
        part = slice(start, start + together(images))
        parts.append(explained(part))
        context.progress(min(part.stop, len(images)), len(images))
        if parts[-1].status != "measured":
            break
    return _joined(parts)


def _joined(parts: Sequence[Explanations]) -> Explanations:
    """Explanations of one method on images one after another, as one; what is not applicable to some is to none."""
    *_, last = parts
    if last.status != "measured" or len(parts) == 1:
        return last
    maps = [part.attributions for part in parts if part.attributions is not None]
    return replace(
        last,
        attributions=torch.cat(maps),
        targets=torch.cat([part.targets for part in parts]),
        segments=None if last.segments is None else torch.cat([p.segments for p in parts if p.segments is not None]),
        quality={name: torch.cat([part.quality[name] for part in parts]) for name in last.quality},
        maps={name: torch.cat([part.maps[name] for part in parts]) for name in last.maps},
    )


def _adversarial(context: Context, clean: Images) -> Images:
    kept = context.evidence("robustness").arrays["adversarial"]
    count = min(len(kept), len(clean))
    return torch.from_numpy(kept[:count].copy()).to(clean.device, clean.dtype)


def _measurements(found: Explanations) -> tuple[Measurement, ...]:
    return tuple(
        Measurement(name, *_UNITS.get(name, ("output", "neither")), values.double().cpu().numpy())  # type: ignore[arg-type]
        for name, values in sorted(found.quality.items())
    )


def _arrays(found: Explanations) -> dict[str, Array]:
    tensors = {"targets": found.targets} | dict(found.maps)
    if found.attributions is not None:
        tensors["attributions"] = found.attributions.float()
    if found.segments is not None:
        tensors["segments"] = found.segments
    return {name: tensor.detach().cpu().numpy() for name, tensor in sorted(tensors.items())}
