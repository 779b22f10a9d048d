"""Agreement as evidence: how far the methods' maps of one model rank the same pixels first."""

from __future__ import annotations

import torch

from audit.core.cell import Cell
from audit.core.errors import NotApplicable
from audit.core.evidence import Evidence
from audit.core.note import note
from audit.core.registry import study
from audit.execution.context import Context
from audit.execution.explanation_inputs import load_array
from audit.execution.measured import measured_evidence
from audit.metrics.agreement import agreement_matrix
from audit.topics.agreement.facts import AgreementFacts


@study(version="2")
def agreement(context: Context, cell: Cell) -> Evidence:
    """The rank agreement of every two methods; `cell.inputs` name their explanations by method.

    Arrays: `matrix` float64 (methods, methods), the mean over images (NaN where one of the two is constant on all).
    Facts: `methods` in its order; `left_out`, those without maps.
    """
    read = {name: _read(context, name) for name in sorted(cell.inputs)}
    measured = {name: one for name, one in read.items() if one is not None}
    facts = AgreementFacts(methods=tuple(measured), left_out=tuple(name for name in read if name not in measured))
    if len(measured) < 2:
        reason = note("two_methods", "Fewer than two methods have maps, so none can be compared.")
        return Evidence(cell, "not_applicable", reason=reason)
    cpu = torch.device("cpu")
    matrix = agreement_matrix({name: load_array(one, "attributions", cpu) for name, one in measured.items()})
    return measured_evidence(cell, arrays={"matrix": matrix.numpy()}, facts=facts)


def _read(context: Context, method: str) -> Evidence | None:
    """The method's explanations; None where it does not apply to this net: the others still compare."""
    try:
        found = context.evidence(method)
    except NotApplicable:
        return None
    return found if found.status == "measured" else None
