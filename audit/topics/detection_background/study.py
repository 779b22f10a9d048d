"""Objects hidden where they are and moved elsewhere, as evidence."""

from __future__ import annotations

import numpy as np

from audit.core.cell import Cell
from audit.core.errors import NotApplicable
from audit.core.evidence import Evidence, Measurement
from audit.core.note import note
from audit.core.registry import study
from audit.execution.context import Context
from audit.execution.measured import measured_evidence
from audit.metrics.detection_background import background_probes


@study()
def detection_background(context: Context, cell: Cell) -> Evidence:
    """Of each object that is found, whether its class is still found there when it is hidden, and it when it is moved.

    Measurement `found` (N,): objects found in place, P in all. Arrays (P,): `owners`, positions in the audit order,
    `labels`, and `hidden` and `moved`, 0 or 1.

    Args:
        context: Gives the detector and the images.
        cell: Its setting `score` is what counts as found.

    Raises:
        NotApplicable: No object is found.
    """
    detector, batch = context.detector(), context.batch()
    with detector.count() as counter:
        probes = background_probes(detector, batch, cell.seed, score=float(cell.settings["score"]))
    if not len(probes.labels):
        raise NotApplicable(note("background_none_found", "No object is found, so none can be hidden or moved."))
    return measured_evidence(
        cell,
        (
            Measurement(
                "found", "objects", "neither", np.bincount(probes.image, minlength=len(batch)).astype(np.float64)
            ),
        ),
        arrays={
            "owners": probes.image + context.task.examples.start,
            "labels": probes.labels,
            "hidden": probes.hidden.astype(np.uint8),
            "moved": probes.moved.astype(np.uint8),
        },
        passes=counter.passes,
    )
