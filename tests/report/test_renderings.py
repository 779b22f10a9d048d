from __future__ import annotations

import json
import re
from pathlib import Path
from xml.etree import ElementTree as xml

import numpy as np
import pytest
from made_entries import CLASSES, accuracy_entry, entry, results_of
from made_run import made_config, made_document, made_facts, made_results

from audit.core.errors import UsageError
from audit.document.schema import AuditDocument
from audit.report.document import build_document
from audit.report.first_policy import first_policy
from audit.report.gate import gate
from audit.report.html import render_comparison
from audit.report.junit import details, render_junit
from audit.report.markdown import escaped, render_card, render_markdown
from audit.report.policy import Policy, Rule, load_policy
from audit.report.run_comparison import compare_documents
from audit.report.sarif import render_sarif
from audit.report.standards import coverage

HOSTILE = (
    "</failure><x>",
    "a|b\n| c",
    "`rm`",
    "@everyone",
    "\x1b[31m",
    "<img src=x>",
    "*b*",
    "[a](javascript:1)",
    "i",
    "j",
)


@pytest.fixture(scope="module")
def document() -> AuditDocument:
    return made_document()


@pytest.fixture(scope="module")
def hostile() -> AuditDocument:
    config = made_config(report={"title": "\x1b[31m</failure>"})
    return build_document(made_results(), config, made_facts(classes=HOSTILE))


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "policy.toml"
    path.write_text(text)
    return path


def test_the_built_in_gate_stops_on_failures_alone(document: AuditDocument) -> None:
    found = gate(document.findings)
    assert not found.passed
    for row in found.rows:
        expected = {"fail": "error", "inconclusive": "warn", "warn": "warn"}.get(row.verdict, "note")
        assert row.outcome == expected


def test_a_policys_threshold_replaces_the_runs_and_rests_on_the_bound(document: AuditDocument) -> None:
    finding = next(f for f in document.findings if f.check == "clean-accuracy" and f.role == "standard")
    assert finding.interval is not None
    for minimum, verdict in ((finding.interval[0] - 1e-6, "pass"), (finding.estimate, "inconclusive"), (0.99, "fail")):
        policy = Policy(checks={"clean-accuracy": Rule(minimum=minimum)})
        (row,) = [r for r in gate(document.findings, policy).rows if r.finding is finding]
        assert row.verdict == verdict


def test_doubted_evidence_passes_no_threshold() -> None:
    interval = gate([]).rows
    assert interval == ()
    from audit.core.statistics import wilson

    assert Rule(minimum=0.0).verdict("inconclusive", wilson(90, 100), weak_evidence=True) == "inconclusive"
    assert Rule(minimum=0.0).verdict("inconclusive", wilson(90, 100), weak_evidence=False) == "pass"
    assert Rule(minimum=0.99).verdict("inconclusive", wilson(90, 100), weak_evidence=True) == "fail"


def test_a_policy_is_read_with_its_lines(document: AuditDocument, tmp_path: Path) -> None:
    path = write(
        tmp_path, '[default]\nlevel = "off"\n\n[checks.robust-accuracy]\nlevel = "error"\nroles = ["hardened"]\n'
    )
    policy, text = load_policy(path)
    found = gate(document.findings, policy, text=text, source="policy.toml")
    robust = [row for row in found.rows if row.finding.check == "robust-accuracy"]
    assert {row.finding.role: row.outcome for row in robust} == {"standard": "off", "hardened": "note"}
    assert {row.line for row in robust} == {4}
    assert found.passed


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[checks.robust-acuracy]\n", "line 1.*Did you mean 'robust-accuracy'"),
        ("[default]\nlevel = 'fatal'\n", "default.level"),
        ("[default]\nminimal = 1\n", "line 2: default.minimal: Unknown key.*Did you mean 'minimum'"),
        ("[default\n", "not valid TOML"),
    ],
)
def test_a_wrong_policy_says_what_is_wrong(text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=message):
        load_policy(write(tmp_path, text))


def test_junit_counts_what_it_holds(document: AuditDocument) -> None:
    root = xml.fromstring(render_junit(document))
    assert [suite.get("name") for suite in root] == ["standard", "hardened", "tool"]
    for suite in root:
        assert int(suite.get("tests", 0)) == len(suite.findall("testcase"))
        assert int(suite.get("failures", 0)) == len(suite.findall("testcase/failure"))
    assert sum(len(s.findall("testcase")) for s in root) == len(document.findings)


def test_junit_reports_failed_studies_as_errors() -> None:
    broken = entry("explanation", "standard", {}, method="lime", status="failed", reason="Out of memory.")
    made = build_document(results_of(accuracy_entry("standard", 0.9), broken), made_config(), made_facts())
    (error,) = xml.fromstring(render_junit(made)).findall(".//error")
    assert error.get("message") == "Out of memory."
    (told,) = json.loads(render_sarif(made))["runs"][0]["invocations"][0]["toolExecutionNotifications"]
    assert "Out of memory." in told["message"]["text"]


def test_sarif_points_at_the_policys_line(document: AuditDocument, tmp_path: Path) -> None:
    policy, text = load_policy(write(tmp_path, "# mine\n[checks.calibration]\nlevel = 'warn'\n"))
    under = gate(document.findings, policy, text=text, source="policy.toml")
    results = json.loads(render_sarif(document, under))["runs"][0]["results"]
    (first, *_) = [r for r in results if r["ruleId"] == "audit/calibration"]
    place = first["locations"][0]["physicalLocation"]
    assert (place["artifactLocation"]["uri"], place["region"]["startLine"]) == ("policy.toml", 2)
    assert first["level"] == "warning"


def test_hostile_names_stay_text_in_every_rendering(hostile: AuditDocument) -> None:
    xml.fromstring(render_junit(hostile))
    json.loads(render_sarif(hostile))
    for text in (render_markdown(hostile), render_card(hostile), render_junit(hostile), render_sarif(hostile)):
        assert "\x1b" not in text
    card = render_card(hostile)
    assert "<img" not in card and "@everyone" not in card and not re.search(r"(?<!\\)\]\(", card)
    assert r"a\|b" in card


def test_markdown_escapes_give_back_the_text() -> None:
    pandoc_free = re.sub(r"\\(.)", r"\1", escaped("a_b*c|d`e#f")).replace("&lt;", "<")
    assert pandoc_free == "a_b*c|d`e#f"


def test_the_summary_shows_what_stops_and_counts_the_rest(document: AuditDocument) -> None:
    text = render_markdown(document)
    stops = sum(row.outcome == "error" for row in gate(document.findings).rows)
    assert text.startswith("## Fail: Not ready to ship") and text.count("stops the pipeline") == stops > 0
    header = next(line for line in text.splitlines() if line.startswith("| Model"))
    assert {line.count("|") for line in text.splitlines() if line.startswith("|")} == {header.count("|")}


def test_the_card_claims_no_use(document: AuditDocument) -> None:
    card = render_card(document)
    assert "Not stated." in card and "# Model card: cnn-28" in card
    assert f"{document.robustness[0].curve[0].robust.estimate:.1%}" in card


def test_a_run_compared_with_itself_has_not_changed(document: AuditDocument) -> None:
    found = compare_documents(document, document)
    assert not found.regressed and found.verdicts == []
    assert all(c.row.difference == 0 and c.newly_wrong == [] for c in found.changes)
    assert found.agreement and all(a.correlation == pytest.approx(1) for a in found.agreement)


def test_a_regression_is_named_image_by_image(document: AuditDocument) -> None:
    row = document.outcomes[0]
    flipped = "0" * 40 + row.outcomes[40:]
    worse = document.model_copy(
        update={"outcomes": [row.model_copy(update={"outcomes": flipped}), *document.outcomes[1:]]}
    )
    found = compare_documents(document, worse)
    first = found.changes[0]
    assert found.regressed and first.regressed and first.row.quantity == "clean"
    assert first.newly_wrong == [document.example_ids[i] for i in range(40) if row.outcomes[i] == "1"]
    assert not any(change.regressed for change in found.changes[1:])
    assert json.loads(found.model_dump_json())["changes"][0]["row"]["quantity"] == "clean"
    assert "Something got worse" in render_comparison(found)


def test_examples_are_paired_by_name_not_by_place(document: AuditDocument) -> None:
    order = np.random.default_rng(0).permutation(len(document.example_ids))
    row = document.outcomes[0]
    shuffled = document.model_copy(
        update={
            "example_ids": [document.example_ids[i] for i in order],
            "outcomes": [row.model_copy(update={"outcomes": "".join(row.outcomes[i] for i in order)})],
        }
    )
    (change,) = compare_documents(document, shuffled).changes
    assert change.newly_wrong == change.newly_right == []


def test_holms_adjustment_by_hand(document: AuditDocument) -> None:
    """Four quantities, one changed: its p-value is multiplied by four."""
    row = document.outcomes[0]
    broken = row.outcomes.replace("1", "0", 6)
    worse = document.model_copy(
        update={"outcomes": [row.model_copy(update={"outcomes": broken}), *document.outcomes[1:]]}
    )
    found = compare_documents(document, worse).changes[0]
    assert found.row.p_value == pytest.approx(2 / 2**6)
    assert found.adjusted_p == pytest.approx(min(1, len(document.outcomes) * 2 / 2**6))
    assert not found.regressed


def test_runs_on_other_data_are_refused(document: AuditDocument) -> None:
    other = document.model_copy(update={"example_ids": ["elsewhere/1"]})
    with pytest.raises(UsageError, match="share no example"):
        compare_documents(document, other)
    assert CLASSES[0] in document.subject.classes


def test_a_first_policy_passes_the_run_it_was_written_from(document: AuditDocument, tmp_path: Path) -> None:
    policy, text = load_policy(write(tmp_path, first_policy(document)))
    assert set(policy.checks) == {finding.check for finding in document.findings}
    assert gate(document.findings, policy, text=text).passed
    assert not gate(document.findings).passed


def test_a_first_policy_stops_what_gets_worse(document: AuditDocument, tmp_path: Path) -> None:
    policy, _ = load_policy(write(tmp_path, first_policy(document)))
    clean = next(f for f in document.findings if f.check == "clean-accuracy" and f.role == "standard")
    worse = clean.model_copy(update={"estimate": 0.5, "interval": (0.45, 0.55), "verdict": "fail"})
    assert not gate([worse], policy).passed


def test_clauses_say_what_the_report_lacks() -> None:
    alone = build_document(results_of(accuracy_entry("standard", 0.9)), made_config(), made_facts())
    rows = {(row.clause.standard, row.clause.clause): row for row in coverage(alone)}
    owasp = rows["OWASP Machine Learning Security Top 10", "ML01:2023"]
    assert (owasp.present, owasp.missing) == ((), ("robustness",))
    assert all(row.clause.source.startswith("https://") for row in rows.values())


def test_a_row_whose_verdict_the_policy_changed_says_so(document: AuditDocument) -> None:
    failed = next(f for f in document.findings if f.verdict == "fail" and f.interval is not None)
    lenient = gate(document.findings, Policy(checks={failed.check: Rule(minimum=-1.0)}))
    row = next(row for row in lenient.rows if row.finding is failed)
    assert row.allowed and row.remark == "Under the run's own criterion: fail. Under the policy's: pass."
    assert row.remark in details(row)
    assert not any(row.allowed or row.remark for row in gate(document.findings).rows)
