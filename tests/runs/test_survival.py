"""Nothing is lost: a full disk, too little memory, damaged files, a second owner, a clock that jumps."""

from __future__ import annotations

import errno
import logging
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, tzinfo
from pathlib import Path

import pytest
import torch

import audit.runs.pipeline
import audit.storage.store
from audit.config import RunConfig, load_config
from audit.core.errors import SetupError
from audit.models.normalised_model import NormalisedModel
from audit.runs.folder import open_run
from audit.runs.pipeline import AuditRun, run_audit
from tests.runs.conftest import TINY


@pytest.fixture(scope="module")
def tiny() -> RunConfig:
    return load_config(overrides=TINY)


@pytest.fixture(scope="module")
def whole(tiny: RunConfig, tmp_path_factory: pytest.TempPathFactory) -> AuditRun:
    return run_audit(tiny, tmp_path_factory.mktemp("whole"))


def documents(outcome: AuditRun) -> tuple[bytes, bytes]:
    return outcome.folder.document.read_bytes(), outcome.folder.report.read_bytes()


def evidence(root: Path) -> list[Path]:
    return sorted(path for path in (root / "store").rglob("*") if path.is_file())


@contextmanager
def disk_of(writes: int, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A disk that is full after so many files."""
    left = iter(range(writes))

    def sync(descriptor: int) -> None:
        if next(left, None) is None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(audit.storage.store.os, "fsync", sync)
        yield


def test_a_disk_that_fills_up_anywhere_loses_nothing(
    tiny: RunConfig, whole: AuditRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    draw = random.Random(7)
    for _ in range(5):
        with disk_of(draw.randrange(1, 16), monkeypatch), pytest.raises(SetupError, match="is full"):
            run_audit(tiny, tmp_path / "run")
        assert not list(tmp_path.rglob(".draft-*")) and not (tmp_path / "run" / ".owner").exists()
    assert documents(run_audit(tiny, tmp_path / "run")) == documents(whole)


def test_a_disk_too_full_for_the_last_rendering_loses_nothing(
    tiny: RunConfig, whole: AuditRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_audit(tiny, tmp_path / "run")
    for name in ("audit.json", "report.html"):
        (tmp_path / "run" / name).unlink()
    with disk_of(2, monkeypatch), pytest.raises(SetupError, match="is full"):
        run_audit(tiny, tmp_path / "run")
    assert not (tmp_path / "run" / "report.html").exists()
    assert documents(run_audit(tiny, tmp_path / "run")) == documents(whole)


def test_out_of_memory_halves_the_batch_says_so_and_changes_no_answer(
    tiny: RunConfig, whole: AuditRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    plain = NormalisedModel.forward

    def starved(self: NormalisedModel, images: torch.Tensor) -> torch.Tensor:
        if len(images) > 5:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return plain(self, images)

    monkeypatch.setattr(NormalisedModel, "forward", starved)
    with caplog.at_level(logging.WARNING, logger="audit"):
        logging.getLogger("audit").addHandler(caplog.handler)
        found = run_audit(tiny, tmp_path / "run")
        logging.getLogger("audit").removeHandler(caplog.handler)
    assert any("the batch is now" in record.getMessage() for record in caplog.records)
    ours, theirs = found.document.model_dump(), whole.document.model_dump()
    assert [(f["check"], f["role"], f["verdict"], f["n"]) for f in ours["findings"]] == [
        (f["check"], f["role"], f["verdict"], f["n"]) for f in theirs["findings"]
    ]
    for mine, other in zip(ours["findings"], theirs["findings"], strict=True):
        assert mine["estimate"] == pytest.approx(other["estimate"], abs=1e-4)
    assert found.results.complete


DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    "cut short": lambda body: body[: len(body) // 2],
    "emptied": lambda body: b"",
    "one bit": lambda body: body[: len(body) // 2] + bytes([body[len(body) // 2] ^ 4]) + body[len(body) // 2 + 1 :],
    "overwritten": lambda body: os.urandom(len(body)),
}


def test_damaged_evidence_is_noticed_said_and_computed_again(
    tiny: RunConfig, whole: AuditRun, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run_audit(tiny, tmp_path / "run")
    files = random.Random(3).sample(evidence(tmp_path / "run"), 2 * len(DAMAGE))
    for path, damage in zip(files, [*DAMAGE.values()] * 2, strict=True):
        path.write_bytes(damage(path.read_bytes()))
    damaged = {path.parent.name[:12] for path in files}
    with caplog.at_level(logging.WARNING, logger="audit"):
        logging.getLogger("audit").addHandler(caplog.handler)
        again = run_audit(tiny, tmp_path / "run")
        logging.getLogger("audit").removeHandler(caplog.handler)
    said = {key for key in damaged if any(key in record.getMessage() for record in caplog.records)}
    assert said == damaged and documents(again) == documents(whole)


@pytest.mark.parametrize("when", [0, 4_000_000_000])
def test_a_clock_that_jumps_changes_nothing(
    when: int, tiny: RunConfig, whole: AuditRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Jumping(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> datetime:
            return datetime.fromtimestamp(when, tz)

    before = documents(whole)
    for path in evidence(whole.folder.root):
        os.utime(path, (when, when))
    monkeypatch.setattr(audit.runs.pipeline, "datetime", Jumping)
    monkeypatch.setattr(time, "time", lambda: float(when))
    assert documents(run_audit(load_config(overrides=TINY), whole.folder.root)) == before


def test_a_clock_that_jumps_under_way_changes_nothing(
    tiny: RunConfig, whole: AuditRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    draw = random.Random(1)
    monkeypatch.setattr(time, "time", lambda: draw.uniform(-1e9, 4e9))
    assert documents(run_audit(tiny, tmp_path / "run")) == documents(whole)


HOLD = """
import sys, time
from pathlib import Path
from audit.runs.folder import open_run
with open_run(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_second_run_names_the_owner_and_goes_on_once_it_was_killed(tmp_path: Path) -> None:
    holder = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path / "run")], stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None and holder.stdout.readline() == "held\n"
    try:
        with (
            pytest.raises(SetupError, match=rf"Another run \(process {holder.pid}\)"),
            open_run(tmp_path / "run"),
        ):
            pass
    finally:
        holder.send_signal(signal.SIGKILL)
        holder.wait()
        holder.stdout.close()
    with open_run(tmp_path / "run"):
        assert (tmp_path / "run" / ".owner").read_text() == str(os.getpid())


@contextmanager
def nobody() -> Iterator[None]:
    """Without the rights of root, to whom no folder is read-only."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


def test_a_folder_one_may_not_write_to_is_refused_before_work(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir(mode=0o555)
    with nobody(), pytest.raises(SetupError, match="Permission denied"), open_run(tmp_path / "mine" / "run"):
        pass
    assert list((tmp_path / "mine").iterdir()) == []


def test_a_folder_that_vanishes_under_way_is_told(tiny: RunConfig, tmp_path: Path) -> None:
    def stopping() -> bool:
        shutil.rmtree(tmp_path / "run", ignore_errors=True)
        (tmp_path / "run").touch()
        return False

    with pytest.raises(SetupError, match="Cannot write to"):
        run_audit(tiny, tmp_path / "run", should_stop=stopping)
