"""Settings that keep the contract tests quick, by attack."""

from __future__ import annotations

from typing import Any

QUICKER: dict[str, dict[str, Any]] = {
    "pgd": {"steps": 12, "restarts": 2, "relative_step": 0.2},
    "apgd-ce": {"steps": 15},
    "apgd-dlr": {"steps": 15},
    "apgd-t": {"steps": 12, "targets": 3},
    "fab-t": {"steps": 12, "targets": 3},
    "multi-targeted": {"steps": 10, "targets": 3, "relative_step": 0.2},
    "square": {"queries": 40},
}

ORACLE: dict[str, dict[str, Any]] = {
    "apgd-ce": {"steps": 30},
    "apgd-dlr": {"steps": 30},
    "apgd-t": {"steps": 30},
    "fab-t": {"steps": 20},
    "square": {"queries": 400},
}
"""Settings for the linear oracle, where some need more."""
