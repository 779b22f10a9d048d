"""Other threats in the report: a line each, in both languages, and never within the worst case of the ball."""

from __future__ import annotations

import pytest
from made_entries import entry, results_of
from made_run import built_rows, made_document, made_page


def test_a_line_a_threat_and_model() -> None:
    rows = made_document().other_threats
    assert [row.kind for row in rows] == 2 * ["spatial", "universal", "patch", "patch", "transfer"]
    spatial, universal, _, aimed, transfer = rows[:5]
    assert (spatial.withstood.n, universal.withstood.n) == (80, 40), "what it was made on is not scored"
    assert spatial.withstood.estimate == pytest.approx(0.75) and spatial.right == pytest.approx(74 / 80)
    assert aimed.target == "Bag" and (transfer.made_by, transfer.agreement) == ("cnn-28", 0.85)


def test_they_leave_the_worst_case_alone() -> None:
    document = made_document()
    names = {row.name for part in document.robustness for row in part.attacks}
    assert names.isdisjoint({"spatial", "universal", "patch"})
    assert not [row for row in document.measures if row.study in ("other-threats", "surrogate")]


@pytest.mark.parametrize(
    ("language", "words"),
    [
        ("en", ("Other threats", "Rotation up to ±30°", "towards Bag", "cnn-28, taught on 40 other images", "75.0%")),
        ("zh", ("其他威胁", "旋转不超过 ±30°", "目标类别为Bag", "用另外 40 幅图像训练", "75.0%")),
    ],
)
def test_the_page_says_what_each_was(language: str, words: tuple[str, ...]) -> None:
    page = made_page(language)
    assert all(word in page for word in words)


def test_a_threat_that_scored_nothing_has_no_line() -> None:
    facts = {"threat": "", "target": "a", "made_on": 4, "made_by": "", "agreement": None, "faults": 0}
    nothing = facts | {"scored": 0, "right": 0, "control": 0}
    unscored = results_of(entry("other-threats", "standard", {}, method="patch", facts=nothing))
    assert built_rows("other_threats", unscored) == []
