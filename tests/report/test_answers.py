"""The first questions: each answered by the gravest finding of its section, methods of explanation apart."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

from audit.document.locale import load_locale
from audit.report.answers import QUESTIONS, answers
from audit.report.view import FindingView


@dataclass(frozen=True)
class _Finding:
    verdict: str


@dataclass(frozen=True)
class _View:
    finding: _Finding
    about: str = "model"


def _views(*verdicts: str, about: str = "model") -> tuple[FindingView, ...]:
    return tuple(cast(FindingView, _View(_Finding(verdict), about)) for verdict in verdicts)


def test_the_gravest_finding_about_the_model_answers() -> None:
    explained = (*_views("warn", about="methods"), *_views("inconclusive", "pass"))
    found = answers(
        {"explanations": explained, "data_health": _views("informative", "pass"), "accuracy": _views("fail")}
    )
    assert [(answer.question, answer.section) for answer in found] == [
        ("trusted", "data_health"),
        ("goes_by", "explanations"),
    ]
    trusted, goes_by = found
    assert (trusted.passed, trusted.total, trusted.finding.finding.verdict) == (2, 2, "pass")
    assert (goes_by.passed, goes_by.total, goes_by.finding.finding.verdict) == (1, 2, "inconclusive")


def test_findings_about_methods_answer_where_there_are_no_others() -> None:
    (only,) = answers({"detection_explanations": _views("pass", "warn", about="methods")})
    assert (only.passed, only.total) == (1, 2)
    nothing: dict[str, Any] = {"slices": ()}
    assert answers(nothing) == ()


def test_every_question_is_asked_in_both_languages() -> None:
    for language in ("en", "zh"):
        locale = load_locale(language)
        assert all(locale(f"answers.{question}") for question in QUESTIONS)
