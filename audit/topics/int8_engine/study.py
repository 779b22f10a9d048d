"""The file of an int8 model, run by onnxruntime, against its differentiable form, which attacks climb."""

from __future__ import annotations

import torch

from audit.core.cell import Cell
from audit.core.errors import AuditError
from audit.core.evidence import Evidence, Measurement
from audit.core.registry import study
from audit.execution.context import Context
from audit.execution.measured import measured_evidence
from audit.models.batching import in_batches


@study()
def int8_engine(context: Context, cell: Cell) -> Evidence:
    """Compare the answers of the file with those of the form that gradients are taken of.

    Measurements (N,): `agrees`, whether both predict the same class; `logit_difference`, the largest difference of
    their logits; `correct`, whether the file is right.

    Args:
        context: Gives the model, the examples and the inputs of the cell.
        cell: The cell.

    Raises:
        AuditError: The model is no file.
    """
    model, batch = context.model(), context.batch()
    if model.runtime is None:
        raise AuditError("The int8 model of this run is no file; run the command in another folder.")
    images = model.check_images(batch.images)
    with model.count() as counter, torch.no_grad():
        integer = model.logits(images).cpu()
        rows = in_batches(len(images), model.layout, lambda part: model.module(images[part]))
        simulated = torch.cat(list(rows)).cpu()
    right, same = integer.argmax(1) == batch.labels.cpu(), integer.argmax(1) == simulated.argmax(1)
    measurements = (
        Measurement("agrees", "share", "higher", same.double().numpy()),
        Measurement("logit_difference", "logits", "lower", (simulated - integer).abs().amax(1).double().numpy()),
        Measurement("correct", "share", "higher", right.double().numpy()),
    )
    return measured_evidence(cell, measurements, passes=counter.passes)
