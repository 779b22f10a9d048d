"""The report as PDF, printed by the reader's own Chromium or Chrome."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from audit.core.errors import SetupError, one_line
from audit.document.schema import AuditDocument
from audit.report.hand_over import HandOver
from audit.report.html import render_html
from audit.topics.compression.section import LatencyRow

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome", "msedge")
_SECONDS = 180


def render_pdf(
    document: AuditDocument,
    *,
    language: str = "en",
    latencies: Sequence[LatencyRow] = (),
    on_fault: Callable[[str], None] | None = None,
    hand_over: HandOver | None = None,
) -> bytes:
    """The page of the report, printed.

    Args:
        document: The document.
        language: Code of the language.
        latencies: Latencies of a compressed model.
        on_fault: Told of a topic whose part of the page fails; without it the error is raised.
        hand_over: What only people know of the model.

    Returns:
        A PDF file.

    Raises:
        SetupError: There is no browser, or it fails.
    """
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        raise SetupError(
            "--format pdf needs Chromium or Chrome, which prints the page, and neither is on the PATH. Install one, or "
            "take --format html and print it from a browser."
        )
    page = render_html(document, language=language, latencies=latencies, on_fault=on_fault, hand_over=hand_over)
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder, "report.html"), Path(folder, "report.pdf")
        source.write_text(page, encoding="utf-8")
        words = [browser, "--headless", "--disable-gpu", "--no-pdf-header-footer", f"--user-data-dir={folder}/profile"]
        words += (
            ["--no-sandbox"] if getattr(os, "geteuid", lambda: 1)() == 0 else []
        )  # it refuses to run as root with one
        try:
            done = subprocess.run(
                [*words, f"--print-to-pdf={target}", source.as_uri()], capture_output=True, text=True, timeout=_SECONDS
            )
        except (OSError, subprocess.TimeoutExpired) as fault:
            raise SetupError(
                f"{browser} did not print the report: {one_line(fault)}. Print report.html by hand."
            ) from None
        if not target.is_file():
            last = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
            raise SetupError(f"{browser} did not print the report: {last[:300]}. Print report.html by hand.")
        return target.read_bytes()
