"""Drift as evidence: how far explanations move while the prediction stays, and between models."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial

import torch
from torch import Tensor

from audit.core.cell import Cell
from audit.core.errors import NotApplicable, unknown_name
from audit.core.evidence import Evidence, Measurement
from audit.core.registry import study
from audit.core.seeding import Generators
from audit.core.threat import ThreatModel
from audit.core.types import Attributions, Batch, Images, Labels
from audit.execution.context import Context
from audit.execution.explanation_inputs import (
    attributions_or_raise,
    load_array,
    references_for,
    run_cell_method,
    sample_counts,
    segments_for,
    to_numpy,
)
from audit.execution.joined_images import join_images
from audit.execution.mask_reuse import drawing_queue, same_draws
from audit.execution.measured import measured_evidence
from audit.execution.resumable import ResumableSteps
from audit.explanation.explanation_attack import manipulate_explanation, noise_keeping_label, pgd_keeping_label
from audit.masking.cache import MaskCache
from audit.metrics.agreement import rank_agreement, top_overlap
from audit.models.under_test import ModelUnderTest
from audit.planning.parts import part_inputs
from audit.topics.drift.facts import BETWEEN, DriftFacts

DriftMove = Callable[[ModelUnderTest, Images, Labels, ThreatModel, Generators], Images]
MOVES: Mapping[str, DriftMove] = {
    "constant-label": lambda model, images, labels, threat, _: pgd_keeping_label(model, images, labels, threat),
    "manipulation": manipulate_explanation,
}
"""By kind of drift, how images are moved; random noise in the same ball is the control of each."""


@study()
def drift(context: Context, cell: Cell) -> Evidence:
    """How far the maps of one method move; `cell.settings["kind"]` says by what.

    `constant-label` (PGD that stops before the prediction changes) and `manipulation` (images moved to turn the
    gradient) within the ball of `cell.threat`, from the maps of `cell.inputs["explanation"]`, with the settings of that
    cell; or `between-models`, from the maps of `cell.inputs["first"]` to those of `["second"]`. Measurements, per
    image, NaN where the image could not be moved, a map is constant, or the models predict different classes:
    `agreement` (Spearman, clean with moved), `top_overlap` (of the highest tenth), `shift` (relative l2), and the same
    with `_random` for noise of the same size. Arrays: `attributions` and `images` after the move.

    Args:
        context: Gives the model, the examples and the inputs of the cell.
        cell: The cell.
    """
    try:
        if cell.settings["kind"] == BETWEEN:
            return _between(context, cell)
        return join_images(context, cell, _joined_facts) if part_inputs(cell) else _moved(context, cell)
    except NotApplicable as fault:
        return Evidence(cell, "not_applicable", reason=fault.reason)


@study()
def drift_part(context: Context, cell: Cell) -> Evidence:
    """How far the maps of one method move, as `drift` says, on some of the images.

    Args:
        context: Gives the model, the examples and the inputs of the cell.
        cell: The cell.
    """
    return _moved(context, cell)


def _joined_facts(parts: Sequence[Evidence]) -> DriftFacts:
    facts = [part.facts_as(DriftFacts) for part in parts]
    return facts[0].model_copy(update={"moved": sum(of_part.moved for of_part in facts)})


def _moved(context: Context, cell: Cell) -> Evidence:
    kind = str(cell.settings["kind"])
    if kind not in MOVES:
        raise unknown_name("kind of drift", kind, [*MOVES, BETWEEN])
    model, explained = context.model(), context.evidence("explanation")
    clean = load_array(explained, "attributions", model.device)
    targets = load_array(explained, "targets", model.device)
    batch = context.batch().to(model.device)
    threat, draws = ThreatModel(**(cell.threat or {})), same_draws(context, explained)
    counts = sample_counts(explained)
    with model.count() as counter:
        steps = ResumableSteps(context, model, 2, "measuring how explanations drift")

        def moved(name: str, move: DriftMove) -> dict[str, Tensor]:
            generators = Generators.of(batch.ids, seed=cell.seed, purpose=f"drift/{kind}{name}", device=model.device)
            images = move(model, batch.images, targets, threat, generators)
            return {"images": images, "maps": _explained(context, cell, batch, images, targets, draws, counts)}

        moves = {"": MOVES[kind], "_random": noise_keeping_label}
        outputs = {name: steps.run(kind + name, partial(moved, name, move)) for name, move in moves.items()}
    origin = batch.images.cpu()
    measured = [
        measurement
        for name, after in outputs.items()
        for measurement in _measurements(clean.cpu(), after["maps"], _is_moved(after["images"], origin), name)
    ]
    images, maps = outputs[""]["images"], outputs[""]["maps"]
    return measured_evidence(
        cell,
        measured,
        arrays={"attributions": maps.numpy(), "images": images.numpy()},
        facts=DriftFacts(kind=kind, threat=str(threat), moved=int(_is_moved(images, origin).sum())),
        passes=counter.passes,
    )


def _explained(
    context: Context,
    cell: Cell,
    batch: Batch,
    images: Images,
    targets: Labels,
    draws: MaskCache | None,
    counts: Tensor | None,
) -> Attributions:
    model = context.model()
    segments, references = segments_for(cell, batch.images), references_for(context, cell, batch.images)
    queue = drawing_queue(model, cell, images, targets, segments, draws)
    explanation = run_cell_method(
        model,
        cell,
        images,
        targets=targets,
        segments=segments,
        ids=batch.ids,
        references=references,
        queue=queue,
        counts=counts,
    )
    return attributions_or_raise(explanation)


def _between(context: Context, cell: Cell) -> Evidence:
    cpu = torch.device("cpu")
    first, second = context.evidence("first"), context.evidence("second")
    before, after = (load_array(explanation, "attributions", cpu) for explanation in (first, second))
    same = load_array(first, "targets", cpu) == load_array(second, "targets", cpu)
    facts = DriftFacts(kind=BETWEEN, same_prediction=int(same.sum()), examples=len(same))
    return measured_evidence(cell, _measurements(before, after, same, ""), facts=facts)


def _measurements(before: Attributions, after: Attributions, counts: Tensor, suffix: str) -> list[Measurement]:
    length = before.flatten(1).norm(dim=1)
    shift = (after - before).flatten(1).norm(dim=1) / length.where(length > 0, torch.nan)
    values = {
        "agreement": ("rank correlation", rank_agreement(before, after)),
        "top_overlap": ("share", top_overlap(before, after)),
        "shift": ("share", shift),
    }
    return [
        Measurement(
            name + suffix, unit, "lower" if name == "shift" else "higher", to_numpy(value.where(counts, torch.nan))
        )
        for name, (unit, value) in values.items()
    ]


def _is_moved(images: Images, origin: Images) -> Tensor:
    return (images != origin).flatten(1).any(1)
