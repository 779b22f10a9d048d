"""Two runs on either side of a change of behaviour say so."""

from __future__ import annotations

import pytest

from audit.document.locale import load_locale
from audit.document.schema import AuditDocument
from audit.report.html import render_comparison
from audit.report.run_comparison import compare_documents
from audit.report.version_boundaries import BOUNDARIES, boundaries_crossed
from tests.made_run import made_document


def made_with(torch: str) -> AuditDocument:
    document = made_document()
    protocol = document.protocol.model_copy(update={"environment": {"torch": torch}})
    return document.model_copy(update={"protocol": protocol})


@pytest.mark.parametrize(
    ("first", "second", "crossed"),
    [
        ("2.13.0", "2.14.1", True),
        ("2.14.1+cpu", "2.13.0+cu130", True),
        ("2.9.1", "2.14", True),  # by numbers, not letters: 2.9 comes before 2.14
        ("2.14.0", "2.15.0", False),
        ("2.12.0", "2.13.0+cpu", False),
        ("2.13.0", "2.13.0", False),
        ("", "2.14.1", False),
        ("unknown", "2.13", False),
    ],
)
def test_a_boundary_is_crossed_where_one_run_lies_before_it(first: str, second: str, crossed: bool) -> None:
    notes = [n for n in boundaries_crossed({"torch": first}, {"torch": second}) if "clamp" in str(n)]
    assert len(notes) == crossed
    assert all(first in str(n) and second in str(n) and "2.14" in str(n) for n in notes)


def test_each_boundary_between_two_runs_is_said() -> None:
    between = [str(n) for n in boundaries_crossed({"torch": "2.11.0"}, {"torch": "2.14.1"})]
    assert ["2.12" in between[0], "2.14" in between[1], len(between)] == [True, True, 2]
    assert not list(boundaries_crossed({"torch": "2.12.0"}, {"torch": "2.13.0"}))


def test_a_run_that_names_no_such_library_crosses_nothing() -> None:
    assert list(boundaries_crossed({"torch": "2.13.0"}, {})) == []


def test_the_comparison_and_its_page_say_it_in_both_languages() -> None:
    first, second = (made_with(torch) for torch in ("2.13.0", "2.14.1"))
    comparison = compare_documents(first, second)
    (said,) = comparison.versions
    assert str(said) in render_comparison(comparison).replace("&#39;", "'")
    chinese = load_locale("zh").note(said)
    assert chinese != str(said) and chinese in render_comparison(comparison, language="zh")
    assert not compare_documents(first, first).versions


def test_every_boundary_names_a_library_that_runs_record() -> None:
    from audit.runs.metadata import LIBRARIES

    assert {boundary.package for boundary in BOUNDARIES} <= set(LIBRARIES)
