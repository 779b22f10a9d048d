"""Quality of attributions as evidence, beside maps that do not depend on the model."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
from torch import Tensor

from audit.core.cell import Cell
from audit.core.errors import NotApplicable
from audit.core.evidence import Array, Better, Evidence, Measurement
from audit.core.registry import study
from audit.core.seeding import Generators, derive_seed
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
from audit.metrics.agreement import rank_agreement, seed_stability
from audit.metrics.infidelity import infidelity
from audit.metrics.pixel_ranking import blurred_copy, edge_map, order_of
from audit.metrics.randomisation import bottom_up
from audit.metrics.road import SHARES, road
from audit.metrics.sensitivity import max_sensitivity
from audit.metrics.sparseness import complexity, sparseness
from audit.models.under_test import ModelUnderTest
from audit.planning.parts import is_part, part_inputs
from audit.topics.attribution_quality.facts import AttributionQualityFacts, AttributionQualitySettings

_STABILITY, _DIFFER = "seed_stability", "seeds_differ"


@dataclass(frozen=True)
class _Case:
    """One method's maps on one model, and how to ask for others like them."""

    model: ModelUnderTest
    batch: Batch
    targets: Labels
    maps: Attributions
    explain: Callable[[ModelUnderTest, Images, int], Attributions]
    seed: int
    settings: AttributionQualitySettings
    part: bool

    def generators(self, purpose: str) -> Generators:
        return Generators.of(self.batch.ids, seed=self.seed, purpose=f"judging/{purpose}", device=self.maps.device)

    @property
    def controls(self) -> dict[str, Attributions]:
        """Maps that know nothing of the model: noise, edges; and the map itself, blurred."""
        noise = self.generators("control").uniform(1, *self.maps.shape[2:])
        return {"_random": noise, "_edges": edge_map(self.batch.images), "_blurred": blurred_copy(self.maps)}


@study()
def attribution_quality(context: Context, cell: Cell) -> Evidence:
    """Metrics of the maps of `cell.inputs["explanation"]`, other than deletion and insertion.

    `cell.settings`: those of that explanation, `ExplanationSettings`, and `AttributionQualitySettings`. Measurements,
    NaN where a map is all zero or constant: `sparseness`; `infidelity` and `road_area`, each with `_random`, `_edges`
    and `_blurred` controls; `max_sensitivity`; `randomisation_similarity`, the rank agreement, signs kept, with the map
    of the model whose weights are all drawn anew (near 0 is good); `randomisation_complexity`, the relative rise of the
    map's entropy then (above 0 is good); `seed_stability`, only of methods that draw. Array `randomisation_curve` (N,
    stages).

    Args:
        context: Gives the model, the examples and the inputs of the cell.
        cell: The cell.
    """
    return _joined(context, cell) if part_inputs(cell) else _judged(context, cell)


@study()
def attribution_quality_part(context: Context, cell: Cell) -> Evidence:
    """The metrics of `attribution_quality` on some of the images.

    `seed_stability` is there of every method that is asked with other seeds, with the array `seeds_differ` bool (1,):
    whether any map changed with the seed.

    Args:
        context: Gives the model, the examples and the inputs of the cell.
        cell: The cell.
    """
    return _judged(context, cell)


def _same_facts(parts: Sequence[Evidence]) -> AttributionQualityFacts:
    return parts[0].facts_as(AttributionQualityFacts)


def _joined(context: Context, cell: Cell) -> Evidence:
    """The metrics of all images; how stable maps are under other seeds only where some map changes with the seed."""
    evidence = join_images(context, cell, _same_facts)
    arrays = dict(evidence.arrays)
    differ = arrays.pop(_DIFFER, None)
    kept = tuple(m for m in evidence.measurements if m.name != _STABILITY or (differ is not None and differ.any()))
    return replace(evidence, measurements=kept, arrays=arrays)


def _judged(context: Context, cell: Cell) -> Evidence:
    try:
        case = _case(context, cell)
        values: dict[str, Tensor] = {}
        with case.model.count() as counter:
            # Names of functions are names of steps, which seed torch's generators: renaming one changes draws.
            steps_to_run = (_plainly, _against_noise, _imputed, _sensitive, _randomised, _seeded)
            steps = ResumableSteps(context, case.model, len(steps_to_run), "judging explanations")
            for measure in steps_to_run:
                values |= steps.run(measure.__name__, partial(measure, case))
    except NotApplicable as fault:
        return Evidence(cell, "not_applicable", reason=fault.reason)
    arrays = {name: _array(values.pop(name)) for name in ("randomisation_curve", _DIFFER) if name in values}
    return measured_evidence(
        cell,
        tuple(Measurement(name, *_UNITS[_plain_name(name)], to_numpy(v)) for name, v in values.items()),
        arrays=arrays,
        facts=AttributionQualityFacts(protocol=_protocol(case.settings), **case.settings.model_dump()),
        passes=counter.passes,
    )


_UNITS: Mapping[str, tuple[str, Better]] = {
    "sparseness": ("Gini index", "neither"),
    "infidelity": ("share", "lower"),
    "road_area": ("mean output", "lower"),
    "max_sensitivity": ("share", "lower"),
    "randomisation_similarity": ("rank correlation", "lower"),
    "randomisation_complexity": ("share", "higher"),
    "seed_stability": ("rank correlation", "higher"),
}


def _case(context: Context, cell: Cell) -> _Case:
    model, explained = context.model(), context.evidence("explanation")
    maps = load_array(explained, "attributions", model.device)
    targets = load_array(explained, "targets", model.device)
    batch = context.batch().to(model.device)
    segments, references = segments_for(cell, batch.images), references_for(context, cell, batch.images)
    draws, counts = same_draws(context, explained), sample_counts(explained)

    def explain(subject: ModelUnderTest, images: Images, seed: int) -> Attributions:
        masks = draws if seed == cell.seed else None
        explanation = run_cell_method(
            subject,
            cell,
            images,
            targets=targets,
            segments=segments,
            ids=batch.ids,
            references=references,
            seed=seed,
            queue=drawing_queue(subject, cell, images, targets, segments, masks),
            counts=counts if seed == cell.seed else None,
        )
        return attributions_or_raise(explanation)

    return _Case(model, batch, targets, maps, explain, cell.seed, AttributionQualitySettings.of(cell), is_part(cell))


def _plainly(case: _Case) -> dict[str, Tensor]:
    return {"sparseness": sparseness(case.maps)}


def _against_noise(case: _Case) -> dict[str, Tensor]:
    return {
        f"infidelity{name}": infidelity(
            case.model,
            case.batch.images,
            maps,
            targets=case.targets,
            generators=case.generators("infidelity"),
            samples=case.settings.infidelity_samples,
        )
        for name, maps in {"": case.maps, **case.controls}.items()
    }


def _imputed(case: _Case) -> dict[str, Tensor]:
    return {
        f"road_area{name}": road(
            case.model,
            case.batch.images,
            order_of(maps, case.generators("ties")),
            targets=case.targets,
            generators=case.generators("road"),
        ).mean(1)
        for name, maps in {"": case.maps, **case.controls}.items()
    }


def _sensitive(case: _Case) -> dict[str, Tensor]:
    return {
        "max_sensitivity": max_sensitivity(
            lambda images: case.explain(case.model, images, case.seed),
            case.batch.images,
            case.maps,
            generators=case.generators("sensitivity"),
            samples=case.settings.sensitivity_samples,
        )
    }


def _randomised(case: _Case) -> dict[str, Tensor]:
    stages = [
        maps
        for _, maps in bottom_up(
            case.model,
            lambda twin: case.explain(twin, case.batch.images, case.seed),
            seed=case.seed,
            stages=case.settings.stages,
        )
    ]
    before, after = complexity(case.maps), complexity(stages[-1])
    return {
        "randomisation_similarity": rank_agreement(case.maps, stages[-1]),
        "randomisation_complexity": (after - before) / before.where(before > 0, torch.nan),
        "randomisation_curve": torch.stack([rank_agreement(case.maps, maps) for maps in stages], 1),
    }


def _seeded(case: _Case) -> dict[str, Tensor]:
    others = [
        case.explain(case.model, case.batch.images, derive_seed("judging/seed", case.seed, number) % 2**31)
        for number in range(case.settings.seeds)
    ]
    differ = any(not torch.equal(other, case.maps) for other in others)
    if not others or not (differ or case.part):
        return {}
    stability = {_STABILITY: seed_stability(torch.stack([case.maps, *others]))}
    return stability | ({_DIFFER: torch.tensor([differ], device="cpu")} if case.part else {})


def _plain_name(name: str) -> str:
    for suffix in ("_random", "_edges", "_blurred"):
        name = name.removesuffix(suffix)
    return name


def _array(values: Tensor) -> Array:
    return np.asarray(values.cpu().numpy())


def _protocol(settings: AttributionQualitySettings) -> str:
    removed = ", ".join(f"{share:.0%}" for share in SHARES)
    return (
        f"infidelity: {settings.infidelity_samples} Gaussian noises of 0.2, best scale; ROAD: {removed} of the "
        f"pixels imputed; sensitivity: the worst of {settings.sensitivity_samples} moves within 2% of the range; "
        f"randomisation: bottom-up in {settings.stages} stages, signs kept; seeds: {settings.seeds} more. "
        "Controls: noise, an edge detector, the map blurred."
    )
