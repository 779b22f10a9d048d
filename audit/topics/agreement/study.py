"""Agreement as evidence: how far the maps of different methods rank the same pixels first."""

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
    """Spearman's rank correlation of every two methods; `cell.inputs` name their explanations by method.

    Array `matrix` float64 (methods, methods), the mean over images; NaN where one of the two maps is constant on all.
    Facts: see `AgreementFacts`.

    Args:
        context: Gives the model, the examples and the inputs of the cell.
        cell: The cell.
    """
    read = {name: _read(context, name) for name in sorted(cell.inputs)}
    measured = {name: explanation for name, explanation in read.items() if explanation is not None}
    facts = AgreementFacts(methods=tuple(measured), left_out=tuple(name for name in read if name not in measured))
    if len(measured) < 2:
        reason = note("two_methods", "Fewer than two methods have maps, so none can be compared.")
        return Evidence(cell, "not_applicable", reason=reason)
    cpu = torch.device("cpu")
    maps = {name: load_array(explanation, "attributions", cpu) for name, explanation in measured.items()}
    matrix = agreement_matrix(maps)
    return measured_evidence(cell, arrays={"matrix": matrix.numpy()}, facts=facts)


def _read(context: Context, method: str) -> Evidence | None:
    """The method's explanations; None where it does not apply to this net: the others still compare."""
    try:
        explanation = context.evidence(method)
    except NotApplicable:
        return None
    return explanation if explanation.status == "measured" else None
