"""The int8 kernels against the differentiable form of the same model: what is attacked must be what is shipped."""

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
    """Whether both give an image the same class, `agrees` (N,); the largest difference of its logits,
    `logit_difference` (N,); and whether the kernels are right, `correct` (N,). Raises NotApplicable without kernels."""
    model, batch = context.model(), context.batch()
    engine = to_integer_kernels(model.net)
    if engine is None:
        raise NotApplicable(
            note(
                "no_integer_kernels",
                "No integer kernels run on this device: int8 is computed in float32 with the same values.",
            )
        )
    with model.count() as spent:
        ours = model.logits(batch.images).cpu()
        with swapped_net(model, engine):
            theirs = model.logits(batch.images).cpu()
    right, same = theirs.argmax(1) == batch.labels.cpu(), theirs.argmax(1) == ours.argmax(1)
    measurements = (
        Measurement("agrees", "share", "higher", same.double().numpy()),
        Measurement("logit_difference", "logits", "lower", (ours - theirs).abs().amax(1).double().numpy()),
        Measurement("correct", "share", "higher", right.double().numpy()),
    )
    return measured_evidence(cell, measurements, passes=spent.passes)
