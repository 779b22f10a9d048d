"""Every figure of the table under the verdict has its interval and its n, where the document has them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from made_run import made_document, made_results

from audit.core.statistics import bootstrap_mean
from audit.document.locale import load_locale
from audit.document.schema import AuditDocument
from audit.report.document import read_document
from audit.report.html import render_html
from audit.report.markdown import render_markdown
from audit.report.view import build_view
from audit.results.queries import corruption_correct
from audit.topics.corruptions.section import CorruptedAccuracyRow, CorruptionRow

EARLY = Path(__file__).parent / "golden" / "older.json"


@pytest.fixture(scope="module")
def document() -> AuditDocument:
    return made_document()


def test_accuracy_under_corruption_is_the_mean_of_its_conditions_with_an_interval_over_images(
    document: AuditDocument,
) -> None:
    results = made_results()
    assert results.plan.stop == "all"
    for over_all in document.rows(CorruptedAccuracyRow):
        by_condition = [row.accuracy for row in document.rows(CorruptionRow) if row.role == over_all.role]
        assert over_all.accuracy.estimate == pytest.approx(np.mean([share.estimate for share in by_condition]))
        assert {share.n for share in by_condition} == {over_all.accuracy.n}
        plain = bootstrap_mean(corruption_correct(results, over_all.role).values)
        assert (over_all.accuracy.low, over_all.accuracy.high) == pytest.approx((plain.low, plain.high), abs=1e-6)
    assert [row.role for row in document.rows(CorruptedAccuracyRow)] == ["standard", "hardened"]


def test_each_figure_has_its_interval_and_its_images(document: AuditDocument) -> None:
    page, summary = render_html(document), render_markdown(document)
    for row in build_view(document, load_locale(), draw=False).scorecard:
        assert row.corrupted_interval and row.calibration_interval and row.corrupted_interval.n < row.clean.n  # type: ignore[union-attr]
        assert row.corrupted == pytest.approx(row.corrupted_interval.estimate)
        assert row.calibration == pytest.approx(row.calibration_interval.estimate)
        for share in (row.clean, row.robust, row.corrupted_interval, row.calibration_interval):
            assert share is not None
            said = f"{100 * share.low:.1f}–{100 * share.high:.1f}%"
            assert f'<span class="bounds">{said}</span> <span class="bounds">n = {share.n}</span>' in page
            assert f"{share.estimate:.1%} ({said}), n = {share.n}" in summary


def test_a_document_without_intervals_shows_the_bare_figure() -> None:
    early = read_document(EARLY)
    bare = early.model_copy(update={"findings": [f for f in early.findings if f.check != "calibration"]})
    page, summary = render_html(bare), render_markdown(bare)
    for row in build_view(bare, load_locale(), draw=False).scorecard:
        assert row.corrupted_interval is None and row.calibration_interval is None
        for figure in (row.corrupted, row.calibration):
            assert figure is not None
            assert f'<span class="figure">{figure:.1%}</span></td>' in page
            assert f"| {figure:.1%} |" in summary
