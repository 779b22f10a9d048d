"""Settings that keep the contract tests quick, by attack."""

from __future__ import annotations

from typing import Any

import pytest

from audit.core.registry import Method, methods
from audit.core.threat_format import CONVEX_NORMS


def case(method: Method, norm: str, name: str = "", *, slow: bool = False) -> Any:
    """One parameter set; attacks that compile for minutes are always marked slow."""
    marks = [pytest.mark.slow] if slow or method.facts.get("compiles") else []
    return pytest.param(method, norm, id=name or f"{method.name}-{norm}", marks=marks)


EVERY = [case(method, norm) for method in methods("attack") for norm in method.facts["norms"]]
ONE_NORM = [case(m, m.facts["norms"][0], m.name) for m in methods("attack") if m.facts["norms"]]
ON_LINEAR = [
    case(m, norm, slow=m.name == "boundary")
    for m in methods("attack")
    for norm in m.facts["norms"]
    if norm in CONVEX_NORMS
]
"""For the oracle (that of l0 is in `test_sigma_zero.py`), which a random walk along the boundary needs thousands of
single queries to meet."""

QUICKER: dict[str, dict[str, Any]] = {
    "pgd": {"steps": 12, "restarts": 2, "relative_step": 0.2},
    "apgd-ce": {"steps": 15},
    "apgd-dlr": {"steps": 15},
    "apgd-t": {"steps": 12, "targets": 3},
    "fab-t": {"steps": 12, "targets": 3},
    "multi-targeted": {"steps": 10, "targets": 3, "relative_step": 0.2},
    "square": {"queries": 40},
    "carlini-wagner": {"binary_search_steps": 3, "steps": 25, "step_size": 0.1},
    "ddn": {"steps": 30},
    "ead": {"binary_search_steps": 3, "steps": 40, "step_size": 0.1, "initial_const": 10.0},
    "fmn": {"steps": 30},
    "sigma-zero": {"steps": 40, "trials": 8},
    "pdpgd": {"steps": 60, "scouting": 10},
    "boundary": {"steps": 12},
    "hopskipjump": {"steps": 1, "first_queries": 20},
    "brendel-bethge": {"steps": 20, "trust_radius": 0.01},
}

ORACLE: dict[str, dict[str, Any]] = {
    "apgd-ce": {"steps": 30},
    "apgd-dlr": {"steps": 30},
    "apgd-t": {"steps": 30},
    "fab-t": {"steps": 20},
    "square": {"queries": 400},
    "boundary": {"steps": 1500, "source_step": 0.1, "spherical_step": 0.1},
    "brendel-bethge": {"steps": 100, "trust_radius": 0.01},
    "hopskipjump": {"steps": 10, "most_queries": 300},
    "carlini-wagner": {"binary_search_steps": 4, "steps": 60},
    "ead": {"binary_search_steps": 5, "steps": 80},
}
"""Settings for the linear oracle, where some need more."""

REACH: dict[tuple[str, str], float] = {("square", "l2"): 2.0, ("square", "l1"): 2.0}
"""How many times the exact distance an attack needs, where 1.25 is too few: Square's pyramids are at least three
pixels wide and cannot follow weights that change from pixel to pixel."""
