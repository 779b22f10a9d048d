"""The robustness study: one battery of attacks over a sweep of eps, and how far to trust what it found."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import torch
from torch import Tensor

from audit.adversarial.batteries import battery_of_cell
from audit.adversarial.eot import expectation_over_transformation
from audit.adversarial.result import AttackResult, BatteryResult
from audit.adversarial.run_battery import run_battery
from audit.core.cell import Cell
from audit.core.errors import NotApplicable
from audit.core.evidence import Array, Evidence, Measurement
from audit.core.registry import study
from audit.execution.context import Context
from audit.models.under_test import ModelUnderTest
from audit.topics.surrogate.study import surrogate_model

KEPT = 64
"""Adversarial images kept in the evidence unless the settings say otherwise."""


@study()
def robustness(context: Context, cell: Cell) -> Evidence:
    """Robust or broken, per example and eps, under every attack of a battery.

    `cell.method` names the battery; settings: "eps" (list), "headline" (one of them), "kept" (how many
    adversarial images to keep); `cell.threat` holds the norm.
    """
    eps, headline, norm = _question(cell)
    model = context.model()
    outcome = run_battery(
        model,
        context.batch(),
        norm,
        eps,
        battery=battery_of_cell(cell.method, cell.settings.get("protocol")),
        seed=cell.seed,
        headline=headline,
        surrogate=_surrogate(context, cell),
        progress=context.progress,
        stopping=context.stopping,
        unfinished=context.checkpoint(),
    )
    adversarial = outcome.adversarial[: int(cell.settings.get("kept", KEPT))]
    with model.count() as spent, expectation_over_transformation(model, outcome.draws, cell.seed):
        mistaken = model.logits(adversarial)
    return Evidence(
        cell=cell,
        status="measured",
        measurements=(Measurement("robust", "share", "higher", _array(outcome.robust.double())),),
        arrays=_arrays(outcome) | {"adversarial": _array(adversarial.float()), "adversarial_logits": _array(mistaken)},
        facts=_facts(outcome),
        forwards=outcome.passes.forwards + spent.forwards,
        backwards=outcome.passes.backwards,
    )


def _question(cell: Cell) -> tuple[Sequence[float], float, Any]:
    threat: Mapping[str, Any] = cell.threat or {}
    eps = cell.settings.get("eps") or [threat["eps"]]
    return eps, float(cell.settings.get("headline", threat.get("eps", max(eps)))), threat["norm"]


def _surrogate(context: Context, cell: Cell) -> ModelUnderTest | None:
    """The surrogate of the plan; None where there is none, or none could be taught: the battery then says so."""
    if "surrogate" not in cell.inputs:
        return None
    try:
        return surrogate_model(context.evidence("surrogate"), context.device)
    except NotApplicable:
        return None


def _arrays(outcome: BatteryResult) -> dict[str, Array]:
    return {
        "robust": _array(outcome.survived.to(torch.uint8)),
        "minimal_eps": _array(outcome.minimal_eps),
        "broken_by": _array(outcome.first_broken_by),
        "survives_rounding": _array(outcome.rounding.to(torch.uint8)),
    }


def _facts(outcome: BatteryResult) -> dict[str, Any]:
    broken = ~outcome.robust
    return {
        "norm": outcome.norm,
        "eps": list(outcome.eps),
        "headline": outcome.headline,
        "battery": outcome.battery,
        "protocol": outcome.protocol,
        "attacks": list(outcome.attacks),
        "rows": [_row(row) for row in outcome.rows],
        "inconclusive": list(outcome.inconclusive),
        "notes": list(outcome.notes),
        "gradient_health": outcome.health,
        "draws": outcome.draws,
        "broken": int(broken.sum()),
        "survive_rounding": int((outcome.rounding & broken).sum()),
    }


def _row(row: AttackResult) -> dict[str, Any]:
    plain = asdict(row)
    plain |= plain.pop("passes")
    return plain


def _array(tensor: Tensor) -> Array:
    return np.ascontiguousarray(tensor.detach().cpu().numpy())
