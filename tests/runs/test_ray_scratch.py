"""Where a worker on Ray keeps what it has begun: in the run folder; where it does not see that, until the cell ends."""

from __future__ import annotations

import logging
import pickle
import tempfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from audit.core.errors import Interrupted
from audit.runs import worker
from audit.runs.ray_worker import RayWorker


class Begins:
    """Stands for what computes cells: it begins one and gives the folder, or is stopped."""

    def __init__(self, order: Any, evidence: Any, progress: Any) -> None:
        self.evidence = evidence

    def compute(self, job: str) -> Path:
        folder: Path = self.evidence.scratch("cell")
        folder.mkdir(parents=True)
        (folder / "part.safetensors").write_bytes(b"begun")
        if job == "stopped":
            raise Interrupted("stopped")
        return folder


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder for temporary files."""
    monkeypatch.setattr(worker, "Worker", Begins)
    monkeypatch.setattr(logging.getLogger("audit"), "handlers", [])
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


def set_up(run: Path, *, owner: str) -> RayWorker:
    run.mkdir()
    (run / ".owner").write_text("17")
    begun = RayWorker()
    assert begun.set_up(pickle.dumps(SimpleNamespace(store=run / "store", owner=owner))) is None
    return begun


def test_a_cell_goes_on_from_the_run_folder_where_the_worker_sees_it(tmp_path: Path, elsewhere: Path) -> None:
    begun = set_up(tmp_path / "run", owner="17")
    assert begun.compute("computed", {}) == tmp_path / "run" / "store" / "scratch" / "cell"
    assert (tmp_path / "run" / "store" / "scratch" / "cell" / "part.safetensors").read_bytes() == b"begun"
    assert not list(elsewhere.iterdir())


@pytest.mark.parametrize("job", ["computed", "stopped"])
def test_a_worker_that_does_not_see_the_run_folder_leaves_nothing(tmp_path: Path, elsewhere: Path, job: str) -> None:
    begun = set_up(tmp_path / "run", owner="18")
    for _ in range(2):
        answer = begun.compute(job, {})
        assert isinstance(answer, Interrupted) if job == "stopped" else answer.parent.parent == elsewhere
        assert not list(elsewhere.iterdir())
    assert not (tmp_path / "run" / "store").exists()
