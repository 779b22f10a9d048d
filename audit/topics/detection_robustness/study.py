"""What a detector finds in attacked images, as evidence."""

from __future__ import annotations

import numpy as np
import torch

from audit.adversarial.detection_verify import VerifiedDetections, verify_detections
from audit.core.cell import Cell
from audit.core.errors import Interrupted
from audit.core.evidence import Evidence, Measurement
from audit.core.objects import Detections, pack_detections, pack_objects
from audit.core.registry import Method, find, study
from audit.core.seeding import Generators
from audit.core.threat import ThreatModel
from audit.core.types import Batch, Images
from audit.execution.context import Context
from audit.execution.measured import measured_evidence
from audit.models.detectors.under_test import DetectorUnderTest
from audit.topics.detection_robustness.facts import DetectionAttackFacts

_STRIDE = 32
"""Most images attacked at a time, no more than one batch; a stop takes effect in between."""


@study()
def detection_attack(context: Context, cell: Cell) -> Evidence:
    """The detections in attacked images, verified, beside the objects.

    `cell.method` names the attack, `cell.threat` holds norm and eps. Measurement `distance` (N,), in the norm. Arrays:
    `objects_*` and `found_*`, see `PackedObjects` and `PackedDetections`; `pictures`, uint8 (P, C, H, W), of the first
    attacked images.

    Args:
        context: Gives the detector and the images.
        cell: The cell.

    Raises:
        Interrupted: The user asked to stop.
    """
    method, threat = find("detection-attack", cell.method), ThreatModel(**dict(cell.threat or {}))
    settings = {name: value for name, value in cell.settings.items() if name in method.defaults}
    shown = int(cell.settings["pictures"])
    detector, batch = context.detector(), context.batch()
    found: list[Detections] = []
    images: list[Images] = []
    distances: list[torch.Tensor] = []
    faults = 0
    with detector.count() as counter:
        stride = min(_STRIDE, detector.layout.batch_size)
        for start in range(0, len(batch), stride):
            if context.stopping():
                raise Interrupted(f"{cell.method} was not finished; the same command starts it again.")
            part = batch.select(torch.arange(start, min(start + stride, len(batch))))
            judged = attacked(method, detector, part, threat, cell.seed, settings)
            found += judged.found
            faults += int(judged.faults.sum())
            distances.append(judged.distance.cpu())
            images.append(judged.images[: max(0, shown - start)].cpu())
            context.progress(min(start + stride, len(batch)), len(batch))
    pixels = torch.cat(images)
    return measured_evidence(
        cell,
        (Measurement("distance", "pixel range", "neither", torch.cat(distances).double().numpy()),),
        arrays={
            **pack_objects(batch.objects or ()).arrays("objects"),
            **pack_detections(found).arrays("found"),
            **({"pictures": np.rint(pixels.numpy() * 255).astype(np.uint8)} if len(pixels) else {}),
        },
        facts=DetectionAttackFacts(
            norm=threat.norm,
            eps=threat.eps,
            aim=str(settings.get("aim", "")),
            control=bool(method.facts["control"]),
            faults=faults,
        ),
        passes=counter.passes,
    )


def attacked(
    method: Method,
    detector: DetectorUnderTest,
    batch: Batch,
    threat: ThreatModel,
    seed: int,
    settings: dict[str, object],
) -> VerifiedDetections:
    """Attack images, each with its own generator, and verify what comes back.

    Args:
        method: A registered attack on detectors.
        detector: The detector under attack.
        batch: N images with their objects.
        threat: The ball.
        seed: The seed of the run.
        settings: Settings of the attack.
    """
    purpose = f"detection attack {method.name} {settings.get('aim', '')} {threat}"
    generators = Generators.of(batch.ids, seed=seed, purpose=purpose, device=detector.device)
    proposals = method.function(detector, batch, threat, generators, **settings)
    return verify_detections(detector, batch.images, proposals, threat)
