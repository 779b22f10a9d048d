"""Accuracy on corrupted images: one corruption at one severity."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from audit.core.cell import Cell
from audit.core.errors import Interrupted
from audit.core.evidence import Evidence, Measurement
from audit.core.registry import Method, find, study
from audit.core.seeding import Generators
from audit.core.types import Images
from audit.execution.context import Context
from audit.execution.measured import measured_evidence
from audit.models.batching import ExecutionLayout, in_batches
from audit.topics.corruptions.facts import CorruptionFacts

_VALUES = 1 << 22
"""Pixel values corrupted at a time, which bounds memory and changes no answer."""


@study()
def corruption(context: Context, cell: Cell) -> Evidence:
    """Whether each corrupted image is classified right.

    `cell.method` names the corruption, `cell.settings["severity"]` is 1 to 5. All severities share the draws of an
    image, so that their differences are not chance. Measurement `correct` (N,), 0 or 1. Array `distortion` (N,), the
    mean absolute change of a pixel.

    Args:
        context: Gives the model, the examples and the inputs of the cell.
        cell: The cell.

    Raises:
        Interrupted: The user asked to stop.
    """
    method, severity = find("corruption", cell.method), int(cell.settings["severity"])
    model, batch = context.model(), context.batch()
    most = ExecutionLayout(batch_size=max(1, _VALUES // math.prod(model.input_shape)))

    def judged(rows: slice) -> tuple[Tensor, Tensor]:
        if context.stopping():
            raise Interrupted(f"{cell.method} was not finished; the same command starts it again.")
        images = model.check_images(batch.images[rows])
        changed = corrupted(method, model.device, batch.ids[rows], images, severity, cell.seed)
        right = model.predictions(changed) == batch.labels[rows].to(model.device)
        distortion = (changed - images).abs().flatten(1).mean(1)
        context.progress(rows.stop, len(batch))
        return right, distortion

    with model.count() as counter:
        parts = list(in_batches(len(batch), most, judged))
    correct, distortion = (torch.cat(column).cpu().numpy() for column in zip(*parts, strict=True))
    return measured_evidence(
        cell,
        (Measurement("correct", "share", "higher", correct.astype(np.float64)),),
        arrays={"distortion": distortion.astype(np.float64)},
        facts=CorruptionFacts(severity=severity, group=method.facts["group"]),
        passes=counter.passes,
    )


def corrupted(
    method: Method, device: torch.device, ids: tuple[str, ...], images: Images, severity: int, seed: int
) -> Images:
    """Apply a corruption, each image with its own generator.

    Args:
        method: The corruption.
        device: Where the images are.
        ids: Id of each image, which seeds its draws.
        images: Float32 (N, C, H, W) in [0, 1], on `device`.
        severity: 1 to 5.
        seed: The seed of the run.

    Returns:
        The corrupted images, float32 (N, C, H, W) in [0, 1].
    """
    generators = Generators.of(ids, seed=seed, purpose=f"corruption {method.name}", device=device)
    changed: Images = method.function(images, severity, generators)
    return changed
