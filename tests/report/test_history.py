from __future__ import annotations

import json
import os
from dataclasses import asdict
from pathlib import Path

import pytest
from made_run import made_document

from audit.core.errors import UsageError
from audit.report import document as documents
from audit.report import history as histories
from audit.report.document import to_json
from audit.report.history import INDEX, history, run_files

TEXT = to_json(made_document())


def write_run(folder: Path, *, begun: str = "2026-01-01T00:00:00+00:00", text: str = TEXT) -> Path:
    folder.mkdir(parents=True)
    (folder / "run.json").write_text("{}")
    (folder / "audit.json").write_text(text)
    (folder / "timing.json").write_text(json.dumps({"begun": begun}))
    return folder


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The documents that were read."""
    read: list[Path] = []
    original = documents.read_document

    def counting(path: Path) -> documents.AuditDocument:
        read.append(path)
        return original(path)

    monkeypatch.setattr(documents, "read_document", counting)
    return read


def test_runs_are_listed_by_time_with_what_they_found(tmp_path: Path) -> None:
    write_run(tmp_path / "new", begun="2026-02-01T00:00:00+00:00")
    write_run(tmp_path / "deep" / "er" / "old")
    document = made_document()
    found = history(tmp_path)
    assert [row.path for row in found.rows] == ["deep/er/old", "new"]
    row = found.rows[0]
    assert (row.verdict, row.sentence) == (document.summary.verdict, document.summary.sentence)
    assert row.failed == sum(f.verdict == "fail" for f in document.findings) > 0
    assert row.levels[0].estimate == document.accuracy[0].accuracy.estimate
    robust = next(level for level in row.levels if level.quantity == "robust")
    assert (robust.role, robust.threat) == ("standard", "linf 0.1")
    assert robust.estimate in [point.robust.estimate for point in document.robustness[0].curve]


def test_only_what_changed_is_read_again(tmp_path: Path, opened: list[Path]) -> None:
    one, two = write_run(tmp_path / "one"), write_run(tmp_path / "two")
    first = history(tmp_path)
    assert len(opened) == first.read == 2
    assert history(tmp_path).rows == first.rows and len(opened) == 2
    os.utime(one / "audit.json", ns=(1, 1))
    (two / "timing.json").write_text('{"begun": "2027-01-01T00:00:00+00:00"}')
    write_run(tmp_path / "three")
    assert history(tmp_path).rows[-1].path == "two" and len(opened) == 5
    (one / "audit.json").unlink()
    assert {row.path for row in history(tmp_path).rows} == {"two", "three"} and len(opened) == 5


def test_ten_thousand_known_runs_open_no_document(tmp_path: Path, opened: list[Path]) -> None:
    write_run(tmp_path / "run-0")
    row = asdict(history(tmp_path).rows[0])
    entries = {}
    for number in range(10_000):
        folder = tmp_path / f"run-{number}"
        if number:
            folder.mkdir()
            (folder / "audit.json").touch()
        path = folder.name
        entries[path] = {"stamp": histories._stamp(tmp_path, path), "row": {**row, "path": path}}
    (tmp_path / INDEX).write_text(json.dumps({"format": histories._FORMAT, "runs": entries}))
    opened.clear()
    found = history(tmp_path)
    assert len(found.rows) == 10_000 and found.read == 0 and opened == []
    os.utime(tmp_path / "run-7" / "audit.json", ns=(1, 1))
    assert history(tmp_path).read == len(opened) == 1


@pytest.mark.parametrize("damage", ["", "{", "[]", '{"format": 1, "runs": {"a": {}}}', '{"format": 99, "runs": {}}'])
def test_a_damaged_index_is_made_again(tmp_path: Path, damage: str) -> None:
    write_run(tmp_path / "one")
    first = history(tmp_path).rows
    (tmp_path / INDEX).write_text(damage)
    assert history(tmp_path) == histories.History(first, 1)
    assert history(tmp_path).read == 0


def test_a_document_that_cannot_be_read_is_listed_as_such(tmp_path: Path) -> None:
    write_run(tmp_path / "bad", text="{}")
    (row,) = history(tmp_path).rows
    assert row.verdict == "" and "not an audit document" in row.problem


def test_links_are_not_followed_and_a_file_is_no_folder(tmp_path: Path) -> None:
    write_run(tmp_path / "one")
    (tmp_path / "loop").symlink_to(tmp_path)
    assert [row.path for row in history(tmp_path).rows] == ["one"]
    with pytest.raises(UsageError, match="not a folder"):
        history(tmp_path / "one" / "audit.json")


def test_a_runs_files_are_told_with_the_store_as_one_line(tmp_path: Path) -> None:
    run = write_run(tmp_path / "one")
    for number in range(3):
        place = run / "store" / f"{number}"
        place.mkdir(parents=True)
        (place / "evidence.json").write_text("12345")
    files = dict(run_files(run / "audit.json"))
    assert files["store (3 files)"] == 15 and files["run.json"] == 2
    (run / "run.json").unlink()
    assert list(dict(run_files(run / "audit.json"))) == ["audit.json"]
