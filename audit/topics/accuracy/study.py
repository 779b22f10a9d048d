"""Clean accuracy as evidence."""

from __future__ import annotations

import numpy as np
import torch

from audit.core.cell import Cell
from audit.core.errors import Interrupted
from audit.core.evidence import Evidence, Measurement
from audit.core.registry import study
from audit.execution.context import Context
from audit.execution.measured import measured_evidence
from audit.topics.accuracy.facts import AccuracyFacts

_STRIDE = 1024
"""Examples classified at a time; a stop takes effect in between."""


@study()
def accuracy(context: Context, cell: Cell) -> Evidence:
    """Logits of clean images, and whether the highest is that of the label.

    Measurement `correct` (N,), 0 or 1. Arrays: `logits` float32 (N, classes), `labels` int64 (N,).

    Args:
        context: Gives the model, the examples and the inputs of the cell.
        cell: The cell.

    Raises:
        Interrupted: The user asked to stop.
    """
    model, batch = context.model(), context.batch()
    parts: list[torch.Tensor] = []
    with model.count() as counter:
        for start in range(0, len(batch), _STRIDE):
            if context.stopping():
                raise Interrupted("Stopped before clean accuracy was measured; the same command resumes.")
            parts.append(model.logits(batch.images[start : start + _STRIDE]).cpu())
            context.progress(min(start + _STRIDE, len(batch)), len(batch))
    logits = torch.cat(parts).numpy()
    labels = batch.labels.cpu().numpy().astype(np.int64)
    correct = (logits.argmax(axis=1) == labels).astype(np.float64)
    return measured_evidence(
        cell,
        (Measurement("correct", "share", "higher", correct),),
        facts=AccuracyFacts(independent=True) if model.output_kind == "sigmoid" else None,
        arrays={"logits": logits.astype(np.float32), "labels": labels},
        passes=counter.passes,
    )
