"""A whole run whose searches are replayed, on the stand-in for CUDA graphs: the same audit, and it says so."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from audit.adversarial import active_set
from audit.models import autotune
from audit.models.batching import ExecutionLayout
from audit.runs.pipeline import run_audit
from tests.graphs_on_tape import Tape
from tests.runs.workers import configured

PARTS: dict[str, Any] = {"only": ["robustness"], "robustness": {"examples": 12}, "jobs": 1}


def test_a_replayed_run_finds_what_a_plain_one_does_and_says_that_it_replays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AUDIT_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr(active_set, "SYNC_EVERY_ON_CPU", active_set.SYNC_EVERY_ON_ACCELERATOR)
    Tape.install(monkeypatch)
    documents = []
    for replayed in (0, 8):
        Tape.replayed = 0
        layout = ExecutionLayout(batch_size=8, replayed=replayed)
        monkeypatch.setattr(autotune, "_read_cached", lambda path, layout=layout: layout)
        folder = run_audit(configured(tmp_path, **PARTS), tmp_path / str(replayed)).folder
        documents.append(json.loads(folder.document.read_text()))
        assert (Tape.replayed > 0) == (replayed > 0)
    plain, said = documents
    added = said["subject"]["notes"].pop()
    assert added["key"] == "replayed_steps" and added["values"] == {"images": 8}
    assert plain == said
