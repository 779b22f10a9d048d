"""The report of a run that still goes on: a page in the run folder that a browser follows from disk."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from audit.config import RunConfig
from audit.core.errors import fault_line, one_line
from audit.core.evidence import Evidence
from audit.document.schema import AuditDocument
from audit.execution.runner import RunCallback
from audit.planning.plan import Task
from audit.report.html import render_html, render_live_note
from audit.report.live_run import LiveRun
from audit.results.queries import first_entries
from audit.results.run_results import RunResults
from audit.results.stopping import unneeded_tasks
from audit.storage.store import write_atomically

log = logging.getLogger("audit")
_SHARE = 0.05  # of the time of the run that drawing it may take


class ReportWatcher(RunCallback):
    """Passes on what a run calls, and draws the report of what is there, where there is time for it.

    The page is drawn at most every `least` seconds, and so seldom that it takes no more than a twentieth of the time.
    It holds what a run that stopped there would report, and says what waits. A fault in drawing it is logged, and ends
    the drawing, never the run.

    Args:
        inner: Who else is called.
        page: The file that is written; at the end it leads to the report.
        build: The document of results.
        begin_with: The plan, without evidence.
        config: The configuration of the run.
        least: Seconds between two pages, at least.
    """

    def __init__(
        self,
        inner: RunCallback,
        page: Path,
        build: Callable[[RunResults], AuditDocument],
        begin_with: RunResults,
        *,
        config: RunConfig,
        least: float = 5.0,
    ) -> None:
        self.inner = inner
        self.page = page
        self.build = build
        self.results = begin_with
        self.config = config
        self.least = least
        self.evidence: dict[str, Evidence] = {}
        self.current = ""
        self.next_at = 0.0
        self.broken = False

    def begin(self, total: int, stored: int) -> None:
        """Write the first page.

        Args:
            total: The number of tasks.
            stored: How many of them have evidence in the store.
        """
        self.inner.begin(total, stored)
        self._draw()

    def starting(self, task: Task) -> None:
        """Draw the page if it is time, with the task that begins now.

        Args:
            task: The task.
        """
        self.inner.starting(task)
        self.current = task.label
        if time.monotonic() >= self.next_at:
            self._draw()

    def progress(self, task: Task, done: int, total: int) -> None:
        """Pass on how far a task is.

        Args:
            task: The task.
            done: Its steps done.
            total: Its steps in all.
        """
        self.inner.progress(task, done, total)

    def finished(self, task: Task, evidence: Evidence, *, stored: bool) -> None:
        """Keep the evidence, and draw the page if it is time.

        Args:
            task: The task.
            evidence: Its evidence.
            stored: Whether it was in the store before the run.
        """
        self.inner.finished(task, evidence, stored=stored)
        self.evidence[task.cell.key] = evidence
        if time.monotonic() >= self.next_at:
            self._draw()

    def lead_on(self, report: str) -> None:
        """Write the last page, which leads to the report.

        Args:
            report: The report, relative to the page.
        """
        self._write(lambda: render_live_note("done", to=report))

    def give_up(self, fault: BaseException) -> None:
        """Write the last page of a run that ended without a report.

        Args:
            fault: Why.
        """
        self._write(lambda: render_live_note("ended", reason=one_line(fault)))

    def _draw(self) -> None:
        started = time.monotonic()
        self._write(self._render)
        spent = time.monotonic() - started
        self.next_at = time.monotonic() + max(self.least, spent * (1 / _SHARE - 1))

    def _render(self) -> str:
        results = replace(self.results, evidence=dict(self.evidence), cut_by="user")
        results = replace(results, unneeded=unneeded_tasks(results, self.config))
        done, total = len(self.evidence), len(results.plan.tasks) - len(results.unneeded)
        if not first_entries(results):
            return render_live_note("waits", current=self.current, done=done, total=total)
        return render_html(self.build(results), live=LiveRun(done, total, self.current))

    def _write(self, render: Callable[[], str]) -> None:
        if self.broken:
            return
        try:
            write_atomically(self.page, render(), flag="--out")
        except Exception as fault:
            self.broken = True
            log.warning(
                "%s is not written any more: %s. The run goes on, and writes its report at the end.",
                self.page.name,
                fault_line(fault),
            )
