"""The report that ships in samples/: the default run as it stands, under the budgets of every report."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from audit.core.resources import resource_dir

Open = Callable[..., Any]


def test_the_shipped_report_opens_within_its_budget_without_a_request_or_a_word(open_page: Open) -> None:
    html = (resource_dir("samples") / "report.html").read_text("utf-8")
    assert len(html.encode()) < 1_000_000
    opened = open_page(html)
    assert opened.page.locator("h1").inner_text().startswith("Not ready to ship")
    assert opened.page.locator(".item").count() == 16
    assert opened.messages == []
    assert [url for url in opened.requests if not url.startswith("data:")] == []
