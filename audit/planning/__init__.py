"""From a configuration to the plan of a run: which cells, on which examples, in which order. Runs nothing."""

from audit.planning.build import Scope, build_plan
from audit.planning.cost import COST_KEYS, CostEstimate, estimate_cost, max_passes
from audit.planning.run_identity import RunIdentity
from audit.planning.time_budget import BudgetFit, scale_to_budget

__all__ = [
    "COST_KEYS",
    "BudgetFit",
    "CostEstimate",
    "RunIdentity",
    "Scope",
    "build_plan",
    "estimate_cost",
    "max_passes",
    "scale_to_budget",
]
