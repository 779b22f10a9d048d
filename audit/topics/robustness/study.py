"""Robustness as evidence: a battery of attacks at several eps."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from audit.adversarial.batteries import battery_of_cell
from audit.adversarial.eot import expectation_over_transformation
from audit.adversarial.result import BatteryResult
from audit.adversarial.run_battery import run_battery
from audit.adversarial.runtime_rounding import runtime_rounding
from audit.core.cell import Cell
from audit.core.evidence import Array, Evidence, Measurement
from audit.core.precise import precise
from audit.core.registry import study
from audit.execution.context import Context
from audit.execution.measured import measured_evidence
from audit.topics.robustness.cell_job import cell_surrogate
from audit.topics.robustness.facts import ADVERSARIAL_POSITIONS, RobustnessFacts, RobustnessSettings, asked_threat
from audit.topics.robustness.parts_study import joined_parts


@study(version="2")
def robustness(context: Context, cell: Cell) -> Evidence:
    """Robust or broken, per example and eps, under every attack of a battery.

    `cell.method` names the battery, `cell.threat` holds the norm; settings and facts: see `RobustnessSettings` and
    `RobustnessFacts`. Arrays, for E eps and N examples: `robust` uint8 (E, N); `broken_by` int64 (E, N), an index into
    the attacks, -1 where unbroken; `minimal_eps` float64 (N,); `survives_rounding` uint8 (N,); `margin` float32 (N,),
    the largest met within the eps of the verdict; and of the M examples at `adversarial_positions` of the audit order,
    int64 (M,), `adversarial` float32 (M, C, H, W) and `adversarial_logits`. A cell with a `chunk` in its settings joins
    parts, its inputs, to the answer that it would give itself (`audit.topics.robustness.parts_study`).

    Args:
        context: Gives the model, the examples and the inputs of the cell.
        cell: The cell.
    """
    settings, model = RobustnessSettings.of(cell), context.model()
    outcome = joined_parts(context, cell) if settings.chunk else _attacked(context, cell)
    adversarial = outcome.adversarial[: settings.kept]
    positions = context.task.examples.start + np.arange(len(adversarial), dtype=np.int64)
    with model.count() as counter, expectation_over_transformation(model, outcome.draws, cell.seed):
        logits = model.logits(adversarial)
        rounding = runtime_rounding(model, outcome.adversarial)
    return measured_evidence(
        cell,
        (Measurement("robust", "share", "higher", _array(precise(outcome.robust))),),
        arrays=_arrays(outcome)
        | {
            "adversarial": _array(adversarial.float()),
            "adversarial_logits": _array(logits),
            ADVERSARIAL_POSITIONS: positions,
        },
        facts=_facts(outcome, rounding),
        passes=outcome.passes + counter.passes,
    )


def _attacked(context: Context, cell: Cell) -> BatteryResult:
    """The whole battery, here."""
    settings, (norm, eps, headline) = RobustnessSettings.of(cell), asked_threat(cell)
    return run_battery(
        context.model(),
        context.batch(),
        norm,
        eps,
        battery=battery_of_cell(cell.method, settings.protocol),
        seed=cell.seed,
        headline=headline,
        surrogate=cell_surrogate(context, cell),
        sanity_checks=settings.sanity_checks,
        progress=context.progress,
        stopping=context.stopping,
        unfinished=context.checkpoint(),
    )


def _arrays(outcome: BatteryResult) -> dict[str, Array]:
    return {
        "robust": _array(outcome.survived.to(torch.uint8)),
        "minimal_eps": _array(outcome.minimal_eps),
        "broken_by": _array(outcome.first_broken_by),
        "survives_rounding": _array(outcome.rounding.to(torch.uint8)),
        "margin": _array(outcome.margin.float()),
    }


def _facts(outcome: BatteryResult, allowance: float | None) -> RobustnessFacts:
    broken = ~outcome.robust
    return RobustnessFacts(
        norm=outcome.norm,
        eps=outcome.eps,
        headline=outcome.headline,
        battery=outcome.battery,
        protocol=outcome.protocol,
        attacks=outcome.attacks,
        rows=outcome.rows,
        inconclusive=outcome.doubts,
        rows_judged=False,
        notes=outcome.notes,
        gradient_health=outcome.health,
        draws=outcome.draws,
        broken=int(broken.sum()),
        survive_rounding=int((outcome.rounding & broken).sum()),
        runtime_rounding=allowance,
    )


def _array(tensor: Tensor) -> Array:
    return np.ascontiguousarray(tensor.detach().cpu().numpy())
