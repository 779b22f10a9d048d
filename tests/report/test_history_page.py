from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from audit.report.history import HistoryScore, RunRow, report_links
from audit.report.html import render_history
from audit.report.trends import MAX_RUNS, numbered, trends


def run(number: int, *, data: str = "photos", threat: str = "linf 0.1", problem: str = "") -> RunRow:
    levels = (
        HistoryScore("standard", "clean", "", 0.9, 0.88, 0.92, 1000),
        HistoryScore("standard", "robust", threat, 0.4, 0.3, 0.5, 99),
    )
    return RunRow(
        path=f"runs/{number}",
        begun=f"2026-01-05T14:{number % 60:02d}:00+00:00",
        verdict="" if problem else "fail",
        sentence="Not ready.",
        title="audit",
        data=data,
        architecture="cnn-28",
        preset="quick",
        complete=not problem,
        failed=1,
        findings=3,
        levels=() if problem else levels,
        problem=problem,
    )


def test_a_trend_is_one_quantity_of_one_data_set_measured_more_than_once() -> None:
    rows = [run(1), run(2), run(3, threat="l2 0.5"), run(4, data="x-rays")]
    found = {(trend.data, trend.quantity, trend.threat): trend for trend in trends(numbered(rows))}
    assert found.keys() == {("photos", "clean", ""), ("photos", "robust", "linf 0.1")}
    assert [point.number for point in found["photos", "clean", ""].points] == [1, 2, 3]


@pytest.mark.parametrize(
    ("language", "title"), [("en", "mAP under attack, linf 8/255"), ("zh", "攻击下的 mAP，linf 8/255")]
)
def test_detectors_have_trends_of_their_own(language: str, title: str) -> None:
    levels = (
        HistoryScore("standard", "clean", "", 0.92, 0.9, 0.94, 300, "map"),
        HistoryScore("standard", "robust", "linf 8/255", 0.079, 0.06, 0.1, 60, "map"),
    )
    detectors = [replace(run(number, data="photos"), levels=levels) for number in (1, 2)]
    page = render_history([*detectors, run(3), run(4)], language=language)
    assert page.count('<svg class="chart"') == 4 and page.count(title) >= 2
    assert 'mAP <span class="figure">0.079</span>' in page and "0.060–0.100" in page


@pytest.mark.parametrize("language", ["en", "zh"])
def test_the_page_shows_every_number_with_its_interval_and_no_script(language: str) -> None:
    page = render_history([run(1), run(2)], links={"runs/1": "1/report.html"}, language=language, version="1")
    assert "<script" not in page and "default-src &#39;none&#39;" in page
    assert page.count('<svg class="chart"') == 2
    assert "88.0–92.0%" in page and "30.0–50.0%" in page and "linf 0.1" in page
    assert re.findall(r'<a href="([^#"]*)"', page) == ["1/report.html"]
    assert ("2026年1月5日 14:02" if language == "zh" else "2026-01-05 14:02") in page
    assert "src=" not in page and "http" not in page.replace("http-equiv", "").replace("http://www.w3.org/", "")


def test_the_page_stays_small_however_many_runs_there_are() -> None:
    page = render_history([run(number) for number in range(3000)], version="1")
    assert page.count("<tr><td") - 2 * MAX_RUNS == MAX_RUNS and "3,000 runs" in page
    assert "The newest 200" in page and len(page.encode()) < 1_000_000


def test_no_runs_and_unreadable_runs_have_a_page_too() -> None:
    assert "No runs here yet" in render_history([])
    assert "unreadable" in render_history([run(1, problem="damaged")])


def test_hostile_names_stay_text() -> None:
    page = render_history([run(n, data="<script>alert(1)</script>\u202e") for n in (1, 2)])
    assert "<script" not in page and "\u202e" not in page and "&lt;script&gt;" in page


def test_links_lead_to_reports_that_are_there_relative_to_the_page(tmp_path: Path) -> None:
    there = tmp_path / "runs" / "1"
    there.mkdir(parents=True)
    (there / "report.html").touch()
    assert report_links(tmp_path, [run(1), run(2)], tmp_path / "public") == {"runs/1": "../runs/1/report.html"}
