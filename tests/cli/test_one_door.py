"""Whatever ends a command: one sentence, a code that says whose fault it is, and with --json one document."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from audit.cli.app import app
from audit.cli.faults import as_error
from audit.core.errors import AuditError, InternalError, NotApplicable, SetupError, UsageError
from audit.report.document import to_json
from audit.storage.store import write_atomically
from tests.made_run import made_document


def call(*words: object) -> Result:
    return CliRunner().invoke(app, [str(word) for word in words])


@pytest.fixture
def run(tmp_path: Path) -> Path:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "audit.json").write_text(to_json(made_document()))
    return tmp_path / "run"


@pytest.mark.parametrize(
    "words",
    [
        ["run", "--dat", "x"],
        ["rnu"],
        ["run", "--out"],
        ["compare", "one"],
        ["predict"],
        ["list", "--last", "no"],
        ["list", "--last", "0"],
        ["show", "a", "b"],
        ["--nope"],
    ],
)
def test_wrong_words_get_a_sentence_and_a_document(words: list[str]) -> None:
    ended = call(*words, "--json")
    document = json.loads(ended.stdout)
    assert ended.exit_code == document["exit_code"] == 2
    assert document["error"].endswith(".") and ("--help" in document["error"] or "--out" in words)
    assert [line[:7] for line in ended.stderr.splitlines()] == ["error: "]


def failing_with(fault: BaseException) -> Callable[..., None]:
    def fail(*args: object, **options: object) -> None:
        raise fault

    return fail


@pytest.mark.parametrize(
    ("fault", "code", "said"),
    [
        (RuntimeError("surprise\nmore"), 70, "audit itself failed"),
        (SystemExit(0), 70, "audit itself failed"),
        (RecursionError(), 70, "RecursionError"),
        (KeyboardInterrupt(), 130, "Aborted"),
        (MemoryError("a lot"), 5, "memory"),
        (RuntimeError("CUDA out of memory. Tried"), 5, "memory"),
        (OSError(28, "No space left on device", "x"), 5, "disk is full"),
        (PermissionError(13, "Permission denied", "x"), 5, "Permission denied"),
        (NotApplicable("It has no gradient."), 2, "It has no gradient."),
        (UsageError("1 images are wrong."), 2, "1 image is wrong."),
    ],
)
def test_whatever_a_command_raises_has_its_code(
    fault: BaseException, code: int, said: str, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr("audit.report.document.read_document", failing_with(fault))
    ended = call("show", run, "--json")
    document = json.loads(ended.stdout)
    assert ended.exit_code == document["exit_code"] == code
    assert said in document["error"] and "\n" not in document["error"] and "Traceback" not in ended.output


def test_the_traceback_of_an_unforeseen_fault_is_in_the_file_that_is_named(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr("audit.report.document.read_document", failing_with(ZeroDivisionError("x")))
    ended = call("show", run)
    (file,) = tmp_path.glob("audit-fault-*.txt")
    assert str(file) in ended.stderr and "ZeroDivisionError" in file.read_text()
    assert file.stat().st_mode & 0o077 == 0
    assert "Traceback" in call("show", run, "--verbose").stderr


def test_without_a_place_for_it_the_traceback_is_printed(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "absent"))
    monkeypatch.setattr("audit.report.document.read_document", failing_with(ZeroDivisionError("x")))
    assert "Traceback" in call("show", run).stderr


def test_an_error_after_the_result_adds_no_second_document(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from audit.cli.terminal import Terminal

    emit = Terminal.emit

    def then_fail(self: Terminal, *args: object) -> None:
        emit(self, *args)  # type: ignore[arg-type]
        raise SetupError("Afterwards.")

    monkeypatch.setattr(Terminal, "emit", then_fail)
    ended = call("show", run, "--json")
    assert ended.exit_code == 5 and "findings" in json.loads(ended.stdout)


def test_what_others_print_stays_out_of_the_document(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    document = made_document()

    def noisy(path: Path) -> object:
        print("loading weights...")
        return document

    monkeypatch.setattr("audit.report.document.read_document", noisy)
    assert json.loads(call("show", run, "--json").stdout)["complete"] is True


def shell(line: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    root = str(Path(__file__).parents[2])
    names = {"PYTHONPATH": root, "OMP_NUM_THREADS": "1", "AUDIT": f"{sys.executable} -m audit"}
    return subprocess.run(
        ["bash", "-c", line], cwd=cwd, env=os.environ | names, capture_output=True, text=True, check=False
    )


def test_streams_that_close_or_fill_up_change_no_verdict(run: Path) -> None:
    lines = (
        "$AUDIT check run | head -c 1 >/dev/null; echo ${PIPESTATUS[0]}; "
        "$AUDIT show run --json >/dev/full 2>/dev/null; echo $?; "
        "$AUDIT show --help | head -c 1 >/dev/null; echo ${PIPESTATUS[0]}; "
        "PYTHONIOENCODING=ascii $AUDIT show run >/dev/null; echo $?"
    )
    ended = shell(lines, run.parent)
    assert ended.stdout.split() == ["1", "5", "0", "0"], ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_deleted_working_folder_is_said(tmp_path: Path) -> None:
    ended = shell("mkdir gone; cd gone; rmdir ../gone; $AUDIT plan --json", tmp_path)
    assert ended.returncode == 5 and "no longer exists" in json.loads(ended.stdout)["error"]


@pytest.mark.parametrize(
    ("words", "flag"),
    [
        (["index", "{run}/.."], "--html"),
        (["compare", "{run}", "{run}"], "--html"),
        (["check", "{run}"], "--junit"),
        (["check", "{run}"], "--sarif"),
        (["report", "{run}", "--format", "md"], "--out"),
        (["init", "{run}"], "--out"),
    ],
)
def test_a_place_that_cannot_be_written_is_blamed_on_its_flag(words: list[str], flag: str, run: Path) -> None:
    ended = call(*(word.format(run=run) for word in words), flag, "/proc/none/file.x")
    assert ended.exit_code == 5 and ended.stderr.rstrip().endswith(f"with {flag}."), ended.stderr


def test_a_pipe_is_written_to_and_not_replaced(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    read: list[str] = []
    reader = threading.Thread(target=lambda: read.append(pipe.read_text()))
    reader.start()
    write_atomically(pipe, "whole")
    reader.join(timeout=10)
    assert read == ["whole"] and pipe.is_fifo()


def test_a_table_in_a_pipe_is_cut_nowhere() -> None:
    rows = call("methods", "attack").stdout.splitlines()
    assert any("arXiv:1706.06083" in row and "steps=" in row for row in rows)


def test_codes_differ_by_whose_fault_it_is() -> None:
    assert as_error(ValueError("x")).exit_code == InternalError.exit_code == 70
    assert {error.exit_code for error in AuditError.__subclasses__()} >= {2, 3, 4, 5, 70, 130}
    assert "70 audit itself failed" in " ".join(call("--help").stdout.split())
