"""A whole audit on the pretended device: no cell fails there, with numbers in float64 and without.

Trainings are tested there by recipe, and the search for triggers beside the other metrics.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from audit.runs.pipeline import run_audit
from tests.pretended_device import ELSEWHERE, PretendedDevice
from tests.runs.workers import configured

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
PARTS: dict[str, Any] = {
    "device": ELSEWHERE.type,
    "only": [],
    "explanations": {"examples": 2, "methods": ["saliency", "grad-cam", "lime"], "calibration": False},
    "certification": {"examples": 2},
    "drift": {"enabled": True},
    "influence": {"examples": 2},
    "other_threats": {"examples": 2},
    "shortcuts": {"examples": 20},
}


WITHOUT = pytest.mark.xfail(strict=True, reason="concepts take float64 on the device: two cells fail on MPS")


@pytest.mark.parametrize("float64", [True, pytest.param(False, marks=WITHOUT)], ids=["as on CUDA", "as on MPS"])
def test_no_cell_of_an_audit_fails_on_another_device(float64: bool, tmp_path: Path) -> None:
    with PretendedDevice(float64=float64):
        results = run_audit(configured(tmp_path, **PARTS), tmp_path / "run").results
    evidence = [(task, results.evidence.get(task.cell.key)) for task in results.plan.tasks]
    assert [(t.label, e and e.reason) for t, e in evidence if e is None or e.status == "failed"] == []
    assert all(e is not None and e.environment["device"] == ELSEWHERE.type for _, e in evidence if e and e.forwards)
