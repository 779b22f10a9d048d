"""Sanity of a model as evidence: whether it is a fixed function of each image with usable gradients."""

from __future__ import annotations

from audit.core.cell import Cell
from audit.core.evidence import Evidence, Measurement
from audit.core.registry import study
from audit.execution.context import Context
from audit.execution.measured import measured_evidence
from audit.metrics.model_checks import check_model
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
    """Sanity checks of a model and its gradients, per example (about 40 forwards per image).

    Measurements, 0 is good: `not_finite`, `repeat_difference`, `batch_difference`, `ce_zero`, `ce_nan`, `margin_zero`,
    `margin_nan`, `linear_distance`, `derivative_error`, `noise_shift`, `plateau`, `face_error`. Facts: see
    `ModelSanityFacts`.

    Args:
        context: Gives the model, the examples and the inputs of the cell.
        cell: The cell.
    """
    model, batch = context.model(), context.batch()
    with model.count() as counter:
        checks = check_model(model, batch, cell.seed)
        context.progress(1, 1)
    pixels = (float(batch.images.min()), float(batch.images.max()))
    return measured_evidence(
        cell,
        tuple(Measurement(name, UNITS.get(name, "share"), "lower", values) for name, values in checks.measured.items()),
        facts=ModelSanityFacts(**checks.facts, pixels=pixels, suspicions=checks.flags),
        passes=counter.passes,
    )
