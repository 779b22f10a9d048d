"""Settings that keep the contract tests quick, by attack."""

from __future__ import annotations

from typing import Any

QUICKER: dict[str, dict[str, Any]] = {
    "pgd": {"steps": 12, "restarts": 2, "relative_step": 0.2},
}

ORACLE: dict[str, dict[str, Any]] = {}
"""Settings for the linear oracle, where an attack needs more than the quick ones."""
