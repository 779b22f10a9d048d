from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from audit.report.history import HistoryScore, RunRow
from audit.report.html import render_history


def page_of(count: int) -> str:
    levels = (
        HistoryScore("standard", "clean", "", 0.9, 0.88, 0.92, 1000),
        HistoryScore("hardened", "clean", "", 0.8, 0.7, 0.9, 1000),
    )
    told = {"verdict": "pass", "sentence": "", "title": "", "architecture": "cnn-28", "preset": "quick"}
    hostile = "<img src=https://example.org/x onerror=alert(1)>"
    rows = [
        RunRow(path=f"run-{n}", begun="2026-01-05T14:00:00+00:00", data=hostile, levels=levels, **told)
        for n in range(count)
    ]
    return render_history(rows, version="1")


def test_the_history_asks_for_nothing_and_fits_a_phone(open_page: Callable[..., Any]) -> None:
    opened = open_page(page_of(12), viewport={"width": 390, "height": 844})
    assert opened.messages == [] and opened.requests == []
    assert opened.page.evaluate("document.documentElement.scrollWidth") <= 390
    assert opened.page.locator("svg.chart").count() == 1


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_no_violation_in_the_history(open_page: Callable[..., Any], scheme: str) -> None:
    place = os.environ.get("AXE_CORE")
    if not place:
        (pytest.fail if os.environ.get("CI") else pytest.skip)("AXE_CORE names no axe.min.js (npm install axe-core)")
    page = open_page(page_of(3), color_scheme=scheme, bypass_csp=True).page
    page.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
    page.add_script_tag(content=Path(str(place)).read_text(encoding="utf-8"))
    found = page.evaluate("axe.run(document, {runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'best-practice']})")
    assert [(v["id"], v["nodes"][0]["html"]) for v in found["violations"]] == []
