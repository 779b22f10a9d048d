"""The table of `classifiers.py`."""

from __future__ import annotations

from typing import Any


def render(rows: list[dict[str, Any]]) -> str:
    return ""
