"""The page that follows a run: what it shows while the run goes on, and how it ends."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from audit.cli.app import app
from audit.config import load_config
from audit.core.evidence import Evidence
from audit.execution.runner import RunCallback
from audit.planning.plan import Task
from audit.runs import watch
from audit.runs.pipeline import run_audit

REFRESH = '<meta http-equiv="refresh" content="5">'
SMALL: dict[str, Any] = {
    "data": {"source": "digits"},
    "only": ["accuracy", "robustness"],
    "training": {"epochs": 1},
    "hardening": {"enabled": False},
    "robustness": {"examples": 20},
    "attack_controls": {"examples": 0},
}


class Reader(RunCallback):
    """Reads the page after each cell, as a browser would."""

    def __init__(self, page: Path) -> None:
        self.page = page
        self.seen: list[str] = []

    def starting(self, task: Task) -> None:
        self.seen.append(self.page.read_text("utf-8"))

    def finished(self, task: Task, evidence: Evidence, *, stored: bool) -> None:
        self.seen.append(self.page.read_text("utf-8"))


@pytest.fixture
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    """The page is drawn before every cell."""
    monkeypatch.setattr(watch, "_SHARE", 1.0)
    monkeypatch.setattr(watch.ReportWatcher.__init__, "__kwdefaults__", {"least": 0.0})


@pytest.mark.usefixtures("often")
def test_the_page_grows_with_the_run_and_ends_at_the_report(tmp_path: Path) -> None:
    reader = Reader(tmp_path / "live.html")
    finished = run_audit(load_config(overrides=SMALL), tmp_path, callback=reader, watch=True)
    assert "Nothing to show yet" in reader.seen[0] and REFRESH in reader.seen[0]
    grown = [page for page in reader.seen if "The run goes on" in page]
    assert grown and all(REFRESH in page and 'href="#unfinished"' in page for page in grown)
    counts = [int(count[1]) for page in reader.seen if (count := re.search(r"(\d+) of at most", page))]
    assert counts == sorted(counts) and counts[-1] > counts[0]
    assert not any("Ready" in page or "Every check passes" in page for page in grown)
    last = (tmp_path / "live.html").read_text("utf-8")
    assert 'content="0; url=report.html"' in last
    report = finished.folder.report.read_text("utf-8")
    assert "refresh" not in report and "The run goes on" not in report


def test_the_answers_are_those_of_a_run_without_it(tmp_path: Path) -> None:
    documents = []
    for name, watched in (("with", True), ("without", False)):
        documents.append(
            run_audit(load_config(overrides=SMALL), tmp_path / name, watch=watched).folder.document.read_bytes()
        )
    assert documents[0] == documents[1]
    assert not (tmp_path / "without" / "live.html").exists()


@pytest.mark.usefixtures("often")
def test_a_page_that_cannot_be_drawn_does_not_end_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: Any, **__: Any) -> str:
        raise ValueError("no page")

    monkeypatch.setattr(watch, "render_html", broken)
    finished = run_audit(load_config(overrides=SMALL), tmp_path, watch=True)
    assert finished.document.summary.complete and finished.folder.report.is_file()
    (record,) = [r for r in caplog.records if "live.html" in r.getMessage()]
    assert "no page" in record.getMessage()


def test_a_run_that_ends_before_its_first_number_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("audit.runs.pipeline.run_plan", lambda *_, **__: (_ for _ in ()).throw(OSError("disk gone")))
    overrides = [f"--set={key}" for key in ("data.source=digits", "hardening.enabled=false")]
    shown = CliRunner().invoke(app, ["run", "--watch", "--out", str(tmp_path), *overrides])
    assert shown.exit_code != 0
    page = (tmp_path / "live.html").read_text("utf-8")
    assert "The run ended without a report: disk gone." in page and "refresh" not in page
