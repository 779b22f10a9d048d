"""The self-test as evidence: attributions with known answers, computed on the run's device."""

from __future__ import annotations

import numpy as np
import torch

from audit.core.cell import Cell
from audit.core.evidence import Evidence, Measurement
from audit.core.registry import study
from audit.execution.context import Context
from audit.execution.measured import measured_evidence
from audit.explanation.self_test import run_self_test
from audit.topics.self_test.facts import OracleRow, SelfTestFacts
from audit.topics.self_test.package_comparison import compare_with_packages


@study(version="2")
def self_test(context: Context, cell: Cell) -> Evidence:
    """Solve the problems with known answers; needs no model and no data.

    Measurements, one value per problem: `error` (relative; 1 - hits where the answer is a position) and `bound`. Facts:
    see `SelfTestFacts`; they hold too how far the answers of lime, shap, captum and foolbox are from ours.

    Args:
        context: Gives the model, the examples and the inputs of the cell.
        cell: The cell.
    """
    with torch.random.fork_rng(devices=[]):
        # A layer draws weights when it is made, even if they are set by hand right after.
        solved = run_self_test(context.device)
        compared = compare_with_packages(context.device)
    rows = tuple(
        OracleRow(problem=s.problem, method=s.method, error=min(s.error, 1e9), bound=s.bound, holds=s.holds)
        for s in solved
    )
    return measured_evidence(
        cell,
        (
            Measurement("error", "share", "lower", np.array([row.error for row in rows], dtype=np.float64)),
            Measurement("bound", "share", "neither", np.array([row.bound for row in rows], dtype=np.float64)),
        ),
        facts=SelfTestFacts(
            oracles=rows,
            holding=sum(row.holds for row in rows),
            packages=compared,
        ),
    )
