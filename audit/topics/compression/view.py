"""What the report shows of a smaller model."""

from __future__ import annotations

from audit.topics.comparison.view import view as view

__all__ = ["view"]
