"""How much of a detector's mAP corruptions leave is judged where there is something to lose."""

from __future__ import annotations

import pytest

from audit.config import load_config
from audit.core.statistics import Interval
from audit.planning.plan import AuditPlan
from audit.results.run_results import RunResults
from audit.topics.detection_corruptions import check
from audit.topics.detection_corruptions.measured import PrecisionLeft


@pytest.mark.parametrize(
    ("clean", "images", "verdict"), [(0.9, 100, "pass"), (0.001, 100, "inconclusive"), (0.9, 3, "inconclusive")]
)
def test_a_share_of_next_to_nothing_is_not_judged(
    clean: float, images: int, verdict: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = PrecisionLeft(
        Interval(1.05, 0.98, 1.1, images, "basic bootstrap 95%"),
        clean,
        Interval(clean, clean, clean, images, "basic bootstrap 95%"),
    )
    monkeypatch.setattr(check, "precision_left", lambda results, role: left)
    results = RunResults(AuditPlan(()), {})
    judged = check.detection_corruption(results, "standard", load_config())
    assert judged is not None and judged.verdict == verdict
