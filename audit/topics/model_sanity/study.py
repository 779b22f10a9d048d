"""Sanity of a model as evidence: whether it is a fixed function of each image with usable gradients."""

from __future__ import annotations

import numpy as np
from torch import Tensor

from audit.adversarial.gradient_diagnostics import GradientHealth, gradient_health
from audit.adversarial.red_flags import red_flags
from audit.core.cell import Cell
from audit.core.evidence import Array, Evidence, Measurement
from audit.core.registry import study
from audit.core.seeding import Generators
from audit.core.types import Batch
from audit.execution.context import Context
from audit.execution.measured import measured_evidence
from audit.metrics.determinism import (
    batch_difference,
    changed_state,
    modules_in_training,
    needs_autograd,
    not_finite,
    repeat_difference,
    state_copy,
)
from audit.metrics.gradient_masking import derivative_error, linear_distance, linearise, noise_response
from audit.models.under_test import ModelUnderTest
from audit.topics.model_sanity.facts import ModelSanityFacts

UNITS = {
    "repeat_difference": "share of the logits' spread",
    "batch_difference": "share of the logits' spread",
    "linear_distance": "pixel range",
    "noise_shift": "share of a typical margin",
}
"""By measurement, its unit; the others are shares."""


@study()
def model_sanity(context: Context, cell: Cell) -> Evidence:
    """Sanity checks of a model and its gradients, per example (about 35 forwards per image).

    Measurements, 0 is good: `not_finite`, `repeat_difference`, `batch_difference`, `ce_zero`, `ce_nan`, `margin_zero`,
    `margin_nan`, `linear_distance`, `derivative_error`, `noise_shift`, `plateau`. Facts: see `ModelSanityFacts`.

    Args:
        context: Gives the model, the examples and the inputs of the cell.
        cell: The cell.
    """
    model, batch = context.model(), context.batch()
    with model.count() as counter:
        before = state_copy(model)
        health = gradient_health(model, batch)
        measured = _of_model(model, batch)
        context.progress(1, 2)
        measured |= _of_gradients(model, batch, health, cell.seed)
        facts = _facts(model, batch, health, before)
        context.progress(2, 2)
    suspicions = red_flags(measured, dict(facts))
    return measured_evidence(
        cell,
        tuple(Measurement(name, UNITS.get(name, "share"), "lower", values) for name, values in measured.items()),
        facts=facts.model_copy(update={"suspicions": suspicions}),
        passes=counter.passes,
    )


def _facts(model: ModelUnderTest, batch: Batch, health: GradientHealth, before: dict[str, Tensor]) -> ModelSanityFacts:
    return ModelSanityFacts(
        output_kind=model.output_kind,
        missing_gradient=health.no_gradient_reason,
        needs_autograd=needs_autograd(model, batch.images[:2]),
        in_training=tuple(modules_in_training(model)),
        changed_state=tuple(changed_state(model, before)),
        pixels=(float(batch.images.min()), float(batch.images.max())),
    )


def _of_model(model: ModelUnderTest, batch: Batch) -> dict[str, Array]:
    return {
        "not_finite": _array(not_finite(model, batch.images)),
        "repeat_difference": _array(repeat_difference(model, batch.images)),
        "batch_difference": _array(batch_difference(model, batch.images)),
    }


def _of_gradients(model: ModelUnderTest, batch: Batch, health: GradientHealth, seed: int) -> dict[str, Array]:
    local = linearise(model, batch, differentiable=not health.no_gradient_reason)
    draws = Generators.of(batch.ids, seed=seed, purpose="sanity", device=model.device)
    shift, plateau = noise_response(model, local, draws.fork(0))
    measured = {
        "ce_zero": health.ce_zero,
        "ce_nan": health.ce_nan,
        "margin_zero": health.margin_zero,
        "margin_nan": health.margin_nan,
        "linear_distance": linear_distance(local),
        "derivative_error": derivative_error(model, local, draws.fork(1)),
        "noise_shift": shift,
        "plateau": plateau,
    }
    return {name: _array(values) for name, values in measured.items()}


def _array(values: Tensor) -> Array:
    return values.double().cpu().numpy().astype(np.float64)
