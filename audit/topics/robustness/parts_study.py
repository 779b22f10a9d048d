"""Parts of a battery as evidence: the model examined, some attacks on a chunk, which images the next attack takes."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import count, takewhile

import numpy as np
import torch
from torch import Tensor

from audit.adversarial.batteries import battery_of_cell
from audit.adversarial.battery_parts import StretchResult, examined_model, joined, run_stretch
from audit.adversarial.battery_schedule import battery_schedule
from audit.adversarial.chosen_images import chosen_images
from audit.adversarial.result import BatteryResult
from audit.adversarial.sanity import SanityReport
from audit.adversarial.worst_case import radius
from audit.core.cell import Cell
from audit.core.evidence import Evidence
from audit.core.pass_count import PassCount
from audit.core.registry import study
from audit.core.threat import ThreatModel
from audit.execution.context import Context
from audit.execution.measured import measured_evidence
from audit.planning.parts import part_inputs
from audit.topics.robustness.cell_job import cell_job, cell_surrogate
from audit.topics.robustness.facts import (
    ChoiceSettings,
    ExaminationFacts,
    RobustnessSettings,
    StretchFacts,
    StretchSettings,
    asked_threat,
    part_name,
)

CHOSEN, CHANGED, NEAREST = "chosen", "changed", "nearest"
"""Arrays: positions in the audit order of the images that the next attack takes; of a stretch, positions in its chunk
of the images whose adversarial example is new, and these."""


@study()
def battery_examination(context: Context, cell: Cell) -> Evidence:
    """What a battery must know of a model before its attacks, and its sanity checks where the settings want them.

    Facts: see `ExaminationFacts`.

    Args:
        context: Gives the model and the first images of the battery.
        cell: The cell; its threat holds the norm.
    """
    model = context.model()
    checks = RobustnessSettings.of(cell).sanity_checks
    with model.count() as counter:
        norm = (cell.threat or {})["norm"]
        report = examined_model(model, context.batch(), norm, cell.seed, sanity_checks=checks)
    facts = ExaminationFacts(
        size=report.size,
        health=report.health,
        no_gradient_reason=report.no_gradient_reason,
        logit_noise=report.logit_noise,
        unbroken=report.unbroken,
        chance=report.chance,
    )
    return measured_evidence(cell, facts=facts, passes=counter.passes)


@study()
def battery_stretch(context: Context, cell: Cell) -> Evidence:
    """Some attacks of a battery, one after another, on a chunk of its images.

    The input "examination" is the evidence of that study; "before", that of the stretch before on the same images;
    "choice", which images the first attack takes. Settings and facts: see `StretchSettings` and `StretchFacts`. Arrays:
    what `WorstCase.state` gives without the images; `changed` int64 (m,), positions in the chunk of the images whose
    nearest adversarial example is new, and these as `nearest` float32 (m, C, H, W).

    Args:
        context: Gives the model, the images and the inputs of the cell.
        cell: The cell.
    """
    begun = "before" in cell.inputs
    result = run_stretch(
        cell_job(cell, context.model(), context.batch()),
        StretchSettings.of(cell).runs,
        _report(context),
        _state(context.evidence("before")) if begun else None,
        _chosen(context) if begun else None,
        surrogate=cell_surrogate(context, cell),
        progress=context.progress,
        stopping=context.stopping,
        unfinished=context.checkpoint(),
    )
    tensors = {**result.state, CHANGED: result.changed, NEAREST: result.nearest}
    arrays = {name: np.ascontiguousarray(tensor.detach().cpu().numpy()) for name, tensor in tensors.items()}
    return measured_evidence(cell, arrays=arrays, facts=StretchFacts(rows=result.rows), passes=result.passes)


@study()
def battery_choice(context: Context, cell: Cell) -> Evidence:
    """Which images the next attack of a battery takes, among those of all chunks that are not yet broken.

    The inputs are the latest stretch of each chunk, as "part START" by the position of its first image. Settings: see
    `ChoiceSettings`. Array: `chosen`, positions in the audit order, int64, ascending.

    Args:
        context: Gives the inputs of the cell, and the names of the images.
        cell: The cell.
    """
    settings, (norm, eps, headline) = ChoiceSettings.of(cell), asked_threat(cell)
    battery = battery_of_cell(cell.method, settings.protocol)
    run = battery_schedule(battery, eps, headline)[settings.run]
    states = [_state(context.evidence(name)) for name in part_inputs(cell)]
    distance, margin = (torch.cat([state[name] for state in states]) for name in ("distance", "margin"))
    survivors = (distance > radius(ThreatModel(norm, run.at))).nonzero().flatten()
    ids = context.batch().ids if run.entry.control_sample else ()
    chosen = chosen_images(run.entry, survivors, margin, ids, cell.seed)
    return measured_evidence(cell, arrays={CHOSEN: context.task.examples.start + chosen.numpy()})


def joined_parts(context: Context, cell: Cell) -> BatteryResult:
    """The result of a battery whose parts are the inputs of a cell.

    Args:
        context: Gives the model, all images and the inputs of the cell.
        cell: The cell that joins them.
    """
    examples, size = context.task.examples, RobustnessSettings.of(cell).chunk
    job = cell_job(cell, context.model(), context.batch())
    chunks = [_stretches(context, start) for start in range(examples.start, examples.stop, size)]
    return joined(job, chunks, _report(context))


def _stretches(context: Context, start: int) -> list[StretchResult]:
    """The stretches of one chunk, in order."""
    names = (part_name(start, number) for number in count())
    parts = [context.evidence(name) for name in takewhile(context.task.cell.inputs.__contains__, names)]
    return [
        StretchResult(
            _state(part),
            torch.from_numpy(part.arrays[CHANGED].copy()),
            torch.from_numpy(part.arrays[NEAREST].copy()),
            part.facts_as(StretchFacts).rows,
            PassCount(part.forwards, part.backwards),
        )
        for part in parts
    ]


def _report(context: Context) -> SanityReport:
    facts = context.evidence("examination").facts_as(ExaminationFacts)
    return SanityReport(
        facts.size,
        facts.health,
        facts.no_gradient_reason,
        facts.logit_noise,
        unbroken=facts.unbroken,
        chance=facts.chance,
    )


def _state(stretch: Evidence) -> Mapping[str, Tensor]:
    """What a stretch led to, without the images."""
    arrays = stretch.arrays.items()
    return {name: torch.from_numpy(array.copy()) for name, array in arrays if name not in (CHANGED, NEAREST)}


def _chosen(context: Context) -> Tensor:
    """Positions in the chunk of the images that the first attack takes."""
    examples, positions = context.task.examples, context.evidence("choice").arrays[CHOSEN]
    within = positions[(positions >= examples.start) & (positions < examples.stop)]
    return torch.from_numpy(within - examples.start)
