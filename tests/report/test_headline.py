"""The verdict in one sentence: of the model under test, and why; then what became of it in the other models."""

from __future__ import annotations

import pytest
from made_run import made_document

from audit.core.evidence import Finding, Verdict
from audit.document.locale import load_locale
from audit.report.summary import by_severity, overall_verdict, top_findings, verdict_sentences

ROLES = ("standard", "hardened")


def judged(**verdicts: Verdict) -> list[Finding]:
    """The findings of the made run, every one passing but those named as role__check."""
    firsts = {(f.role, f.check): f for f in made_document().findings if f.section in ("accuracy", "robustness")}
    given = {name.replace("__", "/").replace("_", "-"): verdict for name, verdict in verdicts.items()}
    assert given.keys() <= {f"{role}/{check}" for role, check in firsts}
    return [
        f.model_copy(update={"verdict": given.get(f"{role}/{check}", "pass")}) for (role, check), f in firsts.items()
    ]


def test_a_hardened_models_failure_is_its_own() -> None:
    """The audited model passes, so the headline says so; the other model's failure has its own sentence."""
    findings = judged(hardened__calibration="fail")
    first, second = verdict_sentences(findings, ROLES, load_locale())
    assert overall_verdict(findings, ROLES) == "pass"
    assert first.startswith("Every check passes") and "hardened" not in first
    assert "hardened model's confidence is off" in second


def test_a_model_that_mends_one_thing_says_what_it_leaves_open() -> None:
    findings = judged(standard__robust_accuracy="fail", hardened__calibration="fail")
    first, second = verdict_sentences(findings, ROLES, load_locale())
    assert first.startswith("Not ready to ship: under attack")
    assert second.startswith("The hardened model mends that") and "confidence is off" in second


@pytest.mark.parametrize("graver", ["clean_accuracy", "robust_accuracy"])
def test_what_a_model_gets_wrong_comes_before_how_sure_it_is(graver: str) -> None:
    findings = judged(standard__calibration="fail", **{f"standard__{graver}": "fail"})
    assert [f.check for f in by_severity(findings)[:2]] == [graver.replace("_", "-"), "calibration"]
    assert top_findings(findings, 1)[0].check == graver.replace("_", "-")


def test_what_cannot_be_told_is_no_pass() -> None:
    findings = judged(standard__robust_accuracy="inconclusive")
    assert overall_verdict(findings, ROLES) == "inconclusive"
    assert verdict_sentences(findings, ROLES, load_locale())[0].startswith("No verdict yet")
