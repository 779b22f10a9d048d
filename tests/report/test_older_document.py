"""Documents written by earlier versions: what later versions must go on reading."""

from __future__ import annotations

import json
from html import escape
from pathlib import Path

import jsonschema
import pytest
from made_run import made_document

from audit.core.errors import UsageError
from audit.core.topic import topics
from audit.document.schema import SCHEMA_VERSION, AuditDocument, document_type
from audit.report.document import read_document, schema_json, to_json
from audit.report.formats import FORMATS, render
from audit.report.gate import gate
from audit.report.history import history
from audit.report.html import render_html
from audit.report.policy import Policy, Rule, load_policy
from audit.report.run_comparison import compare_documents

EARLY = Path(__file__).parent / "golden" / "older.json"
"""By an early version of the suite: it lacks parts that documents have today."""
VERSION_1 = Path(__file__).parent / "golden" / "older-0.1.0.json"
"""By 0.1.0: everything is there, and some of it under former names."""


@pytest.fixture(params=[EARLY, VERSION_1], ids=["early", "0.1.0"])
def path(request: pytest.FixtureRequest) -> Path:
    return Path(request.param)


@pytest.fixture
def older(path: Path) -> AuditDocument:
    return read_document(path)


@pytest.fixture
def version_1() -> AuditDocument:
    return read_document(VERSION_1)


def test_the_early_one_lacks_parts_that_documents_have_today() -> None:
    """Else the tests below hold nothing."""
    assert json.loads(EARLY.read_text("utf-8")).keys() < document_type().model_fields.keys()


def test_that_of_0_1_0_is_of_schema_version_1_with_former_names() -> None:
    """Else the tests below hold nothing."""
    raw = json.loads(VERSION_1.read_text("utf-8"))
    studies = {row["study"] for row in (*raw["measures"], *raw["protocol"]["costs"])}
    assert raw["schema_version"] == 1 and raw["further_threats"]
    assert "calibration-of-the-tool" in {finding["check"] for finding in raw["findings"]}
    assert {"judging", "further-threats", "calibration-of-the-tool"} <= studies


def test_it_obeys_the_schema_of_today(path: Path) -> None:
    jsonschema.validate(json.loads(path.read_text("utf-8")), json.loads(schema_json()))


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("language", ["en", "zh"])
def test_it_renders_with_its_numbers(form: str, language: str, older: AuditDocument) -> None:
    text = render(older, FORMATS[form], language=language)
    if form in ("html", "card"):
        assert all(f"{part.accuracy.estimate:.1%}" in text for part in older.accuracy)
    assert len(text) > 1000


def test_it_stands_in_the_history(tmp_path: Path, path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    (run / "audit.json").write_bytes(path.read_bytes())
    (row,) = history(tmp_path).rows
    assert row.problem == "" and {level.quantity for level in row.levels} == {"clean", "robust"}


def test_what_is_read_is_a_document_of_today(older: AuditDocument, tmp_path: Path) -> None:
    assert older.schema_version == SCHEMA_VERSION
    (tmp_path / "audit.json").write_text(to_json(older), encoding="utf-8")
    assert read_document(tmp_path / "audit.json") == older


def test_former_names_of_fields_studies_and_checks_are_read_as_those_of_today(version_1: AuditDocument) -> None:
    former = {name for topic in topics() for name in topic.former_names}
    studies = {row.study for row in (*version_1.measures, *version_1.gaps, *version_1.protocol.costs)}
    checks = {finding.check for finding in version_1.findings}
    assert not former & (studies | checks | version_1.model_dump().keys())
    assert {"attribution-quality", "other-threats", "self-test"} <= studies and "self-test" in checks
    assert version_1.other_threats == made_document().other_threats


def test_a_run_of_0_1_0_and_the_same_run_today_differ_in_nothing(version_1: AuditDocument) -> None:
    comparison = compare_documents(version_1, made_document())
    assert comparison.verdicts == [] and not comparison.regressed
    assert comparison.changes and all(change.row.difference == 0 for change in comparison.changes)


@pytest.mark.parametrize("name", ["calibration-of-the-tool", "self-test"])
@pytest.mark.parametrize("verdict", ["pass", "fail"])
def test_a_policy_by_former_or_present_names_speaks_of_it(
    name: str, verdict: str, version_1: AuditDocument, tmp_path: Path
) -> None:
    path = tmp_path / "policy.toml"
    path.write_text(f'[default]\nlevel = "off"\ninconclusive = "off"\n\n[checks."{name}"]\nlevel = "error"\n')
    policy, text = load_policy(path)
    findings = [
        finding.model_copy(update={"verdict": verdict}) if finding.check == "self-test" else finding
        for finding in version_1.findings
    ]
    gated = gate(findings, policy, text=text, source=path.name)
    assert gated.passed == (verdict == "pass")
    assert {row.line for row in gated.rows if row.finding.check == "self-test"} == {5}
    assert {row.line for row in gated.rows if row.finding.check != "self-test"} == {1}


def test_the_present_name_of_a_check_goes_over_a_former_one() -> None:
    present, former = Rule(level="error"), Rule(level="off")
    for rules in (
        {"gradient-masking": present, "honest-evaluation": former},
        {"honest-evaluation": former, "gradient-masking": present},
    ):
        assert Policy(checks=rules).checks == {"gradient-masking": present}


@pytest.mark.parametrize(
    "text",
    [
        '{"schema_version": 1, "findings": [{}]}',
        '{"schema_version": 1, "findings": 5}',
        '{"schema_version": 1, "findings": [{"check": []}]}',
        '{"schema_version": 1, "protocol": [], "measures": [1]}',
    ],
)
def test_what_is_no_document_of_any_version_is_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / "audit.json").write_text(text)
    with pytest.raises(UsageError, match="not an audit document"):
        read_document(tmp_path / "audit.json")


def test_its_sentences_are_shown_as_they_are_in_every_language(path: Path) -> None:
    raw = json.loads(path.read_text("utf-8"))
    said = [*raw["subject"]["notes"], *(gap["reason"] for gap in raw.get("gaps", ()))]
    page = render_html(read_document(path), language="zh")
    assert said and all(escape(sentence) in page for sentence in said)
