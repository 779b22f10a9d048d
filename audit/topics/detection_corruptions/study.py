"""What a detector finds in corrupted images: one corruption at one severity."""

from __future__ import annotations

import numpy as np

from audit.core.cell import Cell
from audit.core.errors import Interrupted
from audit.core.evidence import Evidence
from audit.core.objects import Detections, pack_detections, pack_objects
from audit.core.registry import find, study
from audit.execution.context import Context
from audit.execution.measured import measured_evidence
from audit.topics.corruptions.facts import CorruptionFacts
from audit.topics.corruptions.study import corrupted

_STRIDE = 64
"""Images corrupted and searched at a time."""


@study()
def detection_corruption(context: Context, cell: Cell) -> Evidence:
    """The detections in corrupted images; the boxes of the objects stay where they were.

    `cell.method` names the corruption, `cell.settings["severity"]` is 1 to 5. All severities share the draws of an
    image. Arrays: `objects_*` and `found_*`; `distortion` (N,), the mean absolute change of a pixel.

    Args:
        context: Gives the detector and the images.
        cell: The cell.

    Raises:
        Interrupted: The user asked to stop.
    """
    method, severity = find("corruption", cell.method), int(cell.settings["severity"])
    detector, batch = context.detector(), context.batch()
    answers: list[Detections] = []
    distortion = np.zeros(len(batch))
    with detector.count() as counter:
        for start in range(0, len(batch), _STRIDE):
            if context.stopping():
                raise Interrupted(f"{cell.method} was not finished; the same command starts it again.")
            rows = slice(start, start + _STRIDE)
            images = detector.check_images(batch.images[rows])
            changed = corrupted(method, detector.device, batch.ids[rows], images, severity, cell.seed)
            answers += detector.detect(changed)
            distortion[rows] = (changed - images).abs().flatten(1).mean(1).cpu().numpy()
            context.progress(min(start + _STRIDE, len(batch)), len(batch))
    return measured_evidence(
        cell,
        arrays={
            **pack_objects(batch.objects or ()).arrays("objects"),
            **pack_detections(answers).arrays("found"),
            "distortion": distortion,
        },
        facts=CorruptionFacts(severity=severity, group=method.facts["group"]),
        passes=counter.passes,
    )
