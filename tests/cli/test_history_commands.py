import json
from pathlib import Path

from made_run import made_document
from typer.testing import CliRunner, Result

from audit.cli.app import app
from audit.core.note import Note
from audit.report.document import to_json


def call(*words: object) -> Result:
    return CliRunner().invoke(app, [str(word) for word in words])


def write_runs(root: Path, count: int = 3) -> None:
    for number in range(count):
        run = root / f"run-{number}"
        run.mkdir()
        (run / "run.json").write_text("{}")
        (run / "audit.json").write_text(to_json(made_document()))
        (run / "timing.json").write_text(json.dumps({"begun": f"2026-01-0{number + 1}T00:00:00+00:00"}))


def test_list_shows_the_newest_last(tmp_path: Path) -> None:
    write_runs(tmp_path)
    lines = call("list", tmp_path).stdout.splitlines()
    assert [line.split()[-1] for line in lines[1:]] == ["run-0", "run-1", "run-2"]
    assert "fail" in lines[1] and "2026-01-01 00:00" in lines[1]
    given = json.loads(call("list", tmp_path, "--last", 1, "--json").stdout)
    assert [run["path"] for run in given["runs"]] == ["run-2"]
    assert (given["total"], given["read"]) == (3, 0)


def test_list_of_nothing_says_so(tmp_path: Path) -> None:
    shown = call("list", tmp_path)
    assert shown.exit_code == 0 and "No runs under" in shown.stderr
    assert call("list", tmp_path / "absent").exit_code == 2


def test_show_tells_verdict_findings_next_step_and_files(tmp_path: Path) -> None:
    write_runs(tmp_path, 1)
    document = made_document()
    shown = call("show", tmp_path / "run-0").stdout
    assert document.summary.sentence in shown
    for finding in document.findings:
        assert finding.title in shown
    assert "Next:\n  audit harden" in shown and "audit.json" in shown
    given = json.loads(call("show", tmp_path / "run-0", "--json").stdout)
    assert given["verdict"] == document.summary.verdict
    assert {"file": "run.json", "bytes": 2} in given["files"]
    assert len(given["findings"]) == len(document.findings)
    quiet = call("show", tmp_path / "run-0", "--quiet").stdout
    assert len(quiet) < len(shown)


def test_hostile_titles_reach_no_terminal(tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    document = made_document()
    hostile = Note.model_validate("\x1b[31m\u202ex")
    document = document.model_copy(update={"subject": document.subject.model_copy(update={"data": hostile})})
    (run / "audit.json").write_text(to_json(document))
    shown = call("list", tmp_path).stdout
    assert "\x1b" not in shown and "\u202e" not in shown and "<U+001B>" in shown


def test_index_writes_a_page_that_links_to_the_reports(tmp_path: Path) -> None:
    write_runs(tmp_path)
    (tmp_path / "run-1" / "report.html").touch()
    given = json.loads(call("index", tmp_path, "--json").stdout)
    assert given == {"written": {"html": str(tmp_path / "index.html")}, "total": 3, "read": 3}
    page = (tmp_path / "index.html").read_text()
    assert 'href="run-1/report.html"' in page and str(tmp_path) not in page
    zh = tmp_path / "zh.html"
    assert call("index", tmp_path, "--html", zh, "--lang", "zh").exit_code == 0
    assert "运行历史" in zh.read_text()
    assert call("index", tmp_path, "--lang", "tlh").exit_code == 2


def test_a_check_that_one_of_two_runs_lacks_was_not_run_there(tmp_path: Path) -> None:
    write_runs(tmp_path, 2)
    document = made_document()
    fewer = document.model_copy(update={"findings": document.findings[1:]})
    (tmp_path / "run-0" / "audit.json").write_text(to_json(fewer))
    shown = call("compare", tmp_path / "run-0", tmp_path / "run-1").stdout
    assert f": not run -> {document.findings[0].verdict}" in shown and "None" not in shown
