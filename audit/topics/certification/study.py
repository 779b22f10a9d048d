"""Certified radii as evidence: a lower bound beside the upper bound that attacks give."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from audit.core.cell import Cell
from audit.core.errors import NotApplicable, unknown_name
from audit.core.evidence import Array, Evidence, Measurement
from audit.core.note import note
from audit.core.registry import find, study
from audit.core.seeding import Generators
from audit.core.types import Batch
from audit.execution.context import Context
from audit.execution.measured import measured_evidence
from audit.execution.resumable import ResumableSteps, concatenate_steps
from audit.metrics.interval_bounds import interval_bounds
from audit.metrics.smoothing import smoothing
from audit.models.under_test import ModelUnderTest
from audit.topics.certification.bounds_study import certified_by_bounds
from audit.topics.certification.facts import LINEAR_BOUNDS, THE_MODEL, CertificationFacts

NORM = {"smoothing": "l2", "interval-bounds": "linf"}
CERTIFIED = {"smoothing": "the model smoothed by Gaussian noise", "interval-bounds": THE_MODEL}
_STRIDE = 16
"""Images certified in one step; between steps a stop takes effect."""


@study()
def certification(context: Context, cell: Cell) -> Evidence:
    """A certified radius for each image by `cell.method`: `smoothing` (l2), `interval-bounds` (linf), `linear-bounds`.

    Measurement `certified_radius` (N,): 0 where the certified class is not the label's, or nothing is certified. With a
    threat, which must be of the method's norm, also `certified` (N,), 0 or 1: the radius exceeds eps. Array
    `predictions` int64 (N,), -1 where the method abstains. Facts: see `CertificationFacts`.

    Args:
        context: Gives the model, the examples and the inputs of the cell.
        cell: The cell.
    """
    if cell.method == LINEAR_BOUNDS:
        return certified_by_bounds(context, cell)
    norm = _norm_of(cell)
    model, batch = context.model(), context.batch()
    settings = find("metric", cell.method).settings(cell.settings)
    starts = range(0, len(batch), _STRIDE)
    with model.count() as counter:
        steps = ResumableSteps(context, model, len(starts), f"certifying by {cell.method}")

        def certified(start: int) -> dict[str, Tensor]:
            chunk = batch.select(torch.arange(start, min(start + _STRIDE, len(batch)), device=batch.images.device))
            radius, predictions = _CERTIFY[cell.method](model, chunk, cell.seed, settings)
            return {"radius": torch.from_numpy(radius), "predictions": torch.from_numpy(predictions)}

        parts = [steps.run(str(start), partial(certified, start)) for start in starts]
    certificates = concatenate_steps(parts)
    radius, predictions = certificates["radius"].numpy(), certificates["predictions"].numpy()
    measurements = [Measurement("certified_radius", "pixel range", "higher", radius)]
    if cell.threat is not None:
        within = (radius > float(cell.threat["eps"])).astype(np.float64)
        measurements.append(Measurement("certified", "share", "higher", within))
    return measured_evidence(
        cell,
        measurements,
        arrays={"predictions": predictions},
        facts=CertificationFacts(
            norm=norm, certifies=CERTIFIED[cell.method], settings=settings, abstained=int((predictions < 0).sum())
        ),
        passes=counter.passes,
    )


def _norm_of(cell: Cell) -> str:
    if cell.method not in NORM:
        raise unknown_name("certificate", cell.method, NORM)
    norm = NORM[cell.method]
    if cell.threat is not None and cell.threat["norm"] != norm:
        raise NotApplicable(
            note(
                "certificate_norm",
                "The certificate of {method} is for {norm}, not for {other}.",
                method=cell.method,
                norm=norm,
                other=cell.threat["norm"],
            )
        )
    return norm


def _by_smoothing(model: ModelUnderTest, batch: Batch, seed: int, settings: dict[str, Any]) -> tuple[Array, Array]:
    draws = Generators.of(batch.ids, seed=seed, purpose="smoothing", device=model.device)
    certificate = smoothing(model, batch.images, draws, **settings)
    allowed = ~batch.target_mask(len(model.classes)).cpu().numpy()
    predictions = certificate.predictions
    right = (predictions >= 0) & np.take_along_axis(allowed, predictions.clip(0)[:, None], 1)[:, 0]
    return np.where(right, certificate.radius, 0.0), predictions


def _by_intervals(model: ModelUnderTest, batch: Batch, seed: int, settings: dict[str, Any]) -> tuple[Array, Array]:
    radius = interval_bounds(model, batch, **settings)
    return radius.cpu().numpy(), model.predictions(batch.images).cpu().numpy()


_CERTIFY: dict[str, Callable[..., tuple[Array, Array]]] = {
    "smoothing": _by_smoothing,
    "interval-bounds": _by_intervals,
}
