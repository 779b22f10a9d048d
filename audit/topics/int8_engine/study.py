"""The integer kernels of an int8 model against its differentiable form, which is what is attacked."""

from __future__ import annotations

from audit.core.cell import Cell
from audit.core.errors import NotApplicable
from audit.core.evidence import Evidence, Measurement
from audit.core.note import note
from audit.core.registry import study
from audit.execution.context import Context
from audit.execution.measured import measured_evidence
from audit.explanation.traced_net import swapped_net
from audit.models.compression.quantization import to_integer_kernels


@study()
def int8_engine(context: Context, cell: Cell) -> Evidence:
    """Compare the answers of the integer kernels with those of the audited model.

    Measurements (N,): `agrees`, whether both predict the same class; `logit_difference`, the largest difference of
    their logits; `correct`, whether the kernels are right.

    Args:
        context: Gives the model, the examples and the inputs of the cell.
        cell: The cell.

    Raises:
        NotApplicable: The device has no integer kernels.
    """
    model, batch = context.model(), context.batch()
    engine = to_integer_kernels(model.net)
    if engine is None:
        raise NotApplicable(
            note(
                "no_integer_kernels",
                "No integer kernels run on this device: int8 is computed in float32 with the same values.",
            )
        )
    with model.count() as counter:
        simulated = model.logits(batch.images).cpu()
        with swapped_net(model, engine):
            integer = model.logits(batch.images).cpu()
    right, same = integer.argmax(1) == batch.labels.cpu(), integer.argmax(1) == simulated.argmax(1)
    measurements = (
        Measurement("agrees", "share", "higher", same.double().numpy()),
        Measurement("logit_difference", "logits", "lower", (simulated - integer).abs().amax(1).double().numpy()),
        Measurement("correct", "share", "higher", right.double().numpy()),
    )
    return measured_evidence(cell, measurements, passes=counter.passes)
