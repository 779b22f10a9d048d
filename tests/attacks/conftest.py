"""A linear model of two classes, on which every attack has a closed form, and what the contract tests share."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def own_layout_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The probe neither reads nor writes the user's cache."""
    monkeypatch.setenv("AUDIT_CACHE_DIR", str(tmp_path / "cache"))
