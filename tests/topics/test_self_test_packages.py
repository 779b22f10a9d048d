"""The packages of the field solve the self-test's problems as we do, and a difference is shown as one."""

from __future__ import annotations

import functools
import sys
from dataclasses import replace
from typing import Any

import pytest
import torch

from audit.core import method_table, registry
from audit.explanation.spec import Attribution
from audit.topics.self_test import package_comparison
from audit.topics.self_test.attribution_answers import captum_answers, lime_answers
from audit.topics.self_test.facts import PackageRow
from audit.topics.self_test.package_comparison import _compared, compare_with_packages

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def rows() -> tuple[PackageRow, ...]:
    return compare_with_packages(CPU)


def test_every_package_of_the_suite_is_asked_and_agrees(rows: tuple[PackageRow, ...]) -> None:
    assert {row.package.split(" ")[0] for row in rows} == {"captum", "shap", "lime", "foolbox"}
    assert all(row.package.split(" ")[1][0].isdigit() for row in rows)
    assert [row for row in rows if not row.holds] == [] and len(rows) >= 18


def test_where_the_answer_is_known_both_are_near_it(rows: tuple[PackageRow, ...]) -> None:
    known = [row for row in rows if row.ours is not None and row.theirs is not None]
    assert len(known) >= 12
    assert all(max(row.ours or 0.0, row.theirs or 0.0) < 0.06 for row in known)
    by_other_code = [row for row in known if row.why.key == "rounding_alone"]
    assert all(
        max(row.ours or 0.0, row.theirs or 0.0) < (1e-2 if "lime" in row.method else 1e-4) for row in by_other_code
    )


def test_own_draws_differ_and_the_same_draws_do_not(rows: tuple[PackageRow, ...]) -> None:
    differences = {row.method: row.difference for row in rows if row.method.startswith("lime")}
    assert differences["lime (its masks)"] < 1e-5 < differences["lime (our masks)"]


def test_a_method_of_ours_that_errs_differs_from_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    method = registry.find("attribution", "occlusion")

    @functools.wraps(method.function)
    def wrong(*arguments: Any, **settings: Any) -> Attribution:
        answer: Attribution = method.function(*arguments, **settings)
        return replace(answer, attributions=answer.attributions * 1.01)

    monkeypatch.setitem(method_table._METHODS, ("attribution", "occlusion"), replace(method, function=wrong))
    caught = [row for row in _compared("captum", captum_answers, CPU) if not row.holds]
    assert [row.method for row in caught] == ["occlusion"]
    assert caught[0].difference == pytest.approx(0.01, rel=0.01)


@pytest.mark.parametrize("fault", [ImportError("no such package"), AttributeError("moved"), RuntimeError("broken")])
def test_a_package_that_fails_gets_a_row_that_says_so(fault: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(*arguments: Any, **options: Any) -> Any:
        raise fault

    monkeypatch.setattr("audit.attributions.lime.lime_by_package", failing)
    (row,) = _compared("lime", lime_answers, CPU)
    assert row.difference is None and not row.holds and str(fault) in row.why.text


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "captum", None)
    monkeypatch.setattr(package_comparison, "version", _missing)
    (row,) = _compared("captum", captum_answers, CPU)
    assert row.package == "captum" and "captum" in row.why.text and not row.holds


def _missing(name: str) -> str:
    raise package_comparison.PackageNotFoundError(name)
