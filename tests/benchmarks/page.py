"""How long a browser is busy with a report until it first finds nothing to do: seconds of its main thread.

    python tests/benchmarks/page.py samples/report.html --rounds 5

Processor seconds of the page alone, so that what other programs take meanwhile does not count.
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path
from typing import Any

from playwright.sync_api import sync_playwright
from rich.console import Console
from rich.table import Table

SHOWN = ("TaskDuration", "ScriptDuration", "LayoutDuration", "Nodes", "LayoutObjects")


def measured(browser: Any, html: str) -> dict[str, float]:
    """The browser's own metrics of one opening, in a context of its own."""
    context = browser.new_context()
    page = context.new_page()
    session = context.new_cdp_session(page)
    session.send("Performance.enable", {"timeDomain": "threadTicks"})
    before = metrics(session)
    page.set_content(html, wait_until="load")
    page.evaluate("new Promise(done => requestIdleCallback(done))")
    after = metrics(session)
    context.close()
    return {name: after[name] - before[name] for name in SHOWN}


def metrics(session: Any) -> dict[str, float]:
    """All metrics by name."""
    return {one["name"]: float(one["value"]) for one in session.send("Performance.getMetrics")["metrics"]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("reports", nargs="+", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    table = Table("report", "kB", *SHOWN)
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        for report in given.reports:
            html = report.read_text(encoding="utf-8")
            rounds = [measured(browser, html) for _ in range(given.rounds)]
            best = min(rounds, key=lambda one: one["TaskDuration"])
            table.add_row(report.name, f"{len(html.encode()) / 1000:.0f}", *(f"{best[name]:.3g}" for name in SHOWN))
    Console().print(table)


if __name__ == "__main__":
    main()
