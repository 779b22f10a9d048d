"""The page that follows a run: what it shows while the run goes on, and how it ends."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from audit.config import load_config
from audit.core.evidence import Evidence
from audit.execution.runner import RunCallback
from audit.planning.plan import Task
from audit.runs import pipeline, watch
from audit.runs.pipeline import run_audit
from tests.runs.conftest import TINY

REFRESH = '<meta http-equiv="refresh" content="5">'
CONFIG = load_config(overrides={**TINY, "only": ["accuracy", "corruptions"], "hardening": {"enabled": False}})


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run that nobody watched."""
    folder = tmp_path_factory.mktemp("plain")
    run_audit(CONFIG, folder)
    return folder


@pytest.fixture
def folder(plain: Path, tmp_path: Path) -> Path:
    """A run folder in which every cell is stored, so that a run shows them one after another in no time."""
    shutil.copytree(plain / "store", tmp_path / "store")
    return tmp_path


class Reader(RunCallback):
    """Reads the page after each cell, as a browser would."""

    def __init__(self, page: Path) -> None:
        self.page = page
        self.seen: list[str] = []

    def finished(self, task: Task, evidence: Evidence, *, stored: bool) -> None:
        self.seen.append(self.page.read_text("utf-8"))


@pytest.fixture
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    """The page is drawn before every cell."""
    monkeypatch.setattr(watch, "_SHARE", 1.0)
    monkeypatch.setattr(watch.ReportWatcher.__init__, "__kwdefaults__", {"least": 0.0})


@pytest.mark.usefixtures("often")
def test_the_page_grows_with_the_run_and_ends_at_the_report(folder: Path, plain: Path) -> None:
    reader = Reader(folder / "live.html")
    finished = run_audit(CONFIG, folder, callback=reader, watch=True)
    assert "Nothing to show yet" in reader.seen[0] and REFRESH in reader.seen[0]
    grown = [page for page in reader.seen if "The run goes on" in page]
    assert grown and all(REFRESH in page and 'href="#unfinished"' in page for page in grown)
    counts = [int(count[1]) for page in reader.seen if (count := re.search(r"(\d+) of at most", page))]
    assert counts == sorted(counts) and counts[-1] > counts[0]
    assert not any("Every check passes" in page for page in grown)
    assert 'content="0; url=report.html"' in (folder / "live.html").read_text("utf-8")
    for name in ("audit.json", "report.html"):
        assert (folder / name).read_bytes() == (plain / name).read_bytes()
    assert not (plain / "live.html").exists() and "refresh" not in finished.folder.report.read_text("utf-8")


@pytest.mark.usefixtures("often")
def test_a_page_that_cannot_be_drawn_does_not_end_the_run(
    folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: Any, **__: Any) -> str:
        raise ValueError("no page")

    monkeypatch.setattr(watch, "render_html", broken)
    finished = run_audit(CONFIG, folder, watch=True)
    assert finished.document.summary.complete and finished.folder.report.is_file()
    (record,) = [record for record in caplog.records if "live.html" in record.getMessage()]
    assert "no page" in record.getMessage()


def test_a_run_that_ends_before_its_first_number_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any, **__: Any) -> Any:
        raise OSError("disk gone")

    monkeypatch.setattr(pipeline, "run_plan", broken)
    with pytest.raises(OSError, match="disk gone"):
        run_audit(CONFIG, tmp_path, watch=True)
    page = (tmp_path / "live.html").read_text("utf-8")
    assert "The run ended without a report: disk gone." in page and "refresh" not in page
