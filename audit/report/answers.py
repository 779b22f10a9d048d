"""The questions that a reader asks before all numbers, each with the gravest finding that answers it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from audit.report.view import FindingView

QUESTIONS: Mapping[str, str] = {
    "trusted": "data_health",
    "whom": "slices",
    "refuse": "refusal",
    "goes_by": "explanations",
    "boxes": "detection_explanations",
    "surroundings": "detection_background",
}
"""By question, the section of the report that answers it."""


@dataclass(frozen=True)
class Answer:
    """One question.

    Attributes:
        question: Its key in `QUESTIONS`.
        section: Name of the section with the evidence.
        finding: The gravest finding about the data or a model; where none is a warning or worse, the first that passed.
        passed: How many findings of the section, those about methods of explanation apart, are no warning.
        total: How many there are.
    """

    question: str
    section: str
    finding: FindingView
    passed: int
    total: int


def answers(by_section: Mapping[str, Sequence[FindingView]]) -> tuple[Answer, ...]:
    """The questions that the run has findings about.

    Args:
        by_section: By section, its findings, the gravest first.
    """
    found: list[Answer] = []
    for question, section in QUESTIONS.items():
        views = by_section.get(section, ())
        own = [view for view in views if view.about == "model"] or list(views)
        if own:
            passed = sum(view.finding.verdict in ("pass", "informative") for view in own)
            found.append(Answer(question, section, _gravest(own), passed, len(own)))
    return tuple(found)


def _gravest(views: Sequence[FindingView]) -> FindingView:
    passes = [view for view in views if view.finding.verdict == "pass"]
    return passes[0] if views[0].finding.verdict == "informative" and passes else views[0]
