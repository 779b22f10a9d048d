"""What every rendering says of a study that stopped early, and of a run that was cut."""

from __future__ import annotations

from typing import Any

import pytest
from made_run import made_document

from audit.config import load_config
from audit.core.note import note
from audit.document.model import Cost
from audit.document.schema import AuditDocument, OutcomeRow
from audit.document.stops import StopRow, UnfinishedRow
from audit.report.gate import gate
from audit.report.html import render_html
from audit.report.junit import render_junit
from audit.report.markdown import render_card, render_markdown
from audit.report.policy import Policy, Rule
from audit.report.run_comparison import compare_documents
from audit.report.sarif import render_sarif
from audit.report.summary import overall_verdict
from audit.results.stopping import UNFINISHED

STOPPED = note(
    "stop_decided",
    "Stopped after {images} of at most {planned} images, which decide it: the interval is a confidence sequence, which "
    "holds at whatever look one stops.",
    images=64,
    planned=500,
)
LEFT = UnfinishedRow(
    study="corruption", role="standard", cells=7, cost=Cost(forwards=4321, backwards=0), undecided=["corruption"]
)


def stopped(cut_by: str = "") -> AuditDocument:
    """The made run, as if its attacks had stopped after 64 images, or the run had been cut."""
    document = made_document()
    said = {f.check: f.model_copy(update={"stopping": STOPPED}) for f in document.findings if f.role == "standard"}
    findings = [
        said[f.check] if f.check == "robust-accuracy" and f.role == "standard" else f for f in document.findings
    ]
    row = StopRow(
        study="robustness", role="standard", rule="decides", images=64, planned=500, ended="decided", sentence=STOPPED
    )
    summary = document.summary.model_copy(update={"cut_by": cut_by, "complete": not cut_by})
    changes = {"findings": findings, "stops": [row], "unfinished": [LEFT] if cut_by else [], "summary": summary}
    return document.model_copy(update=changes)


def test_every_rendering_says_which_rule_ended_a_study() -> None:
    document, sentence = stopped(), "Stopped after 64 of at most 500 images"
    page = render_html(document)
    assert page.count(sentence) == 2, "at the finding and below the chart"
    assert "Wilson intervals over the images" not in page
    for text in (render_junit(document), render_sarif(document), render_card(document), render_markdown(document)):
        assert sentence in text
    assert "在至多 500 幅图像中的 64 幅之后停止" in render_html(document, language="zh")
    assert 'id="unfinished"' not in page


@pytest.mark.parametrize(
    ("cut_by", "words"), [("time", "The time of this run ended"), ("user", "This run was stopped")]
)
def test_a_cut_run_says_so_and_what_is_left(cut_by: str, words: str) -> None:
    document = stopped(cut_by)
    page = render_html(document)
    assert words in page and 'id="unfinished"' in page and "4,321" in page
    assert words in render_card(document) and words in render_markdown(document)
    assert '"executionSuccessful": false' in render_sarif(document)


def test_a_run_that_was_cut_has_no_passing_verdict() -> None:
    passing = [f for f in made_document().findings if f.verdict == "pass" and f.role == "standard"]
    assert overall_verdict(passing, ["standard"]) == "pass"
    assert overall_verdict(passing, ["standard"], cut=True) == "inconclusive"


def test_a_policy_passes_nothing_on_images_that_were_cut_off() -> None:
    (finding,) = [f for f in made_document().findings if f.check == "robust-accuracy" and f.role == "hardened"]
    assert finding.interval is not None
    policy = Policy(checks={"robust-accuracy": Rule(minimum=finding.interval[0] - 0.01)})
    assert [row.verdict for row in gate([finding], policy).rows] == ["pass"]
    cut = finding.model_copy(update={"stopping": note("stop_unfinished", "The run was cut.")})
    assert cut.stopping.key == UNFINISHED
    assert [row.verdict for row in gate([cut], policy).rows] == ["inconclusive"]


def test_two_runs_are_compared_by_what_holds_where_one_stopped_early() -> None:
    fixed = made_document()
    (change,) = _robust(fixed, fixed)
    assert change.row.look == "only" and change.row.p_value == 1
    early = fixed.model_copy(update={"outcomes": [o.model_copy(update={"look": "early"}) for o in fixed.outcomes]})
    better = early.model_copy(update={"outcomes": [_mended(o) for o in early.outcomes]})
    (by_fixed,) = _robust(fixed, better.model_copy(update={"outcomes": [_mended(o) for o in fixed.outcomes]}))
    (by_early,) = _robust(fixed, better)
    assert by_early.row.look == "early" and by_early.row.newly_right == by_fixed.row.newly_right > 0
    assert by_fixed.row.p_value < by_early.row.p_value < 0.05
    assert by_early.row.low < by_fixed.row.low < by_fixed.row.high < by_early.row.high
    assert "confidence sequence" in by_early.row.after.method


def _robust(before: AuditDocument, after: AuditDocument) -> list[Any]:
    changes = compare_documents(before, after).changes
    return [c for c in changes if c.role == "standard" and c.row.quantity == "robust linf 0.1"]


def _mended(row: OutcomeRow) -> OutcomeRow:
    """Every fourth image that was wrong is right."""
    wrong = [i for i, bit in enumerate(row.outcomes) if bit == "0"][::4]
    bits = "".join("1" if i in wrong else bit for i, bit in enumerate(row.outcomes))
    return row.model_copy(update={"outcomes": bits})


def test_the_rule_is_set_by_preset_key_and_flag() -> None:
    assert [load_config(preset=name).stop for name in ("quick", "standard", "full")] == ["decides", 0.1, "all"]
    assert load_config(overrides={"stop": "0.03"}).stop == 0.03
