"""A thousand classes, most of them without an image: what was not measured is absent, and the page stays small."""

from __future__ import annotations

import numpy as np
import pytest
from made_entries import accuracy_entry
from made_run import made_config, made_facts, made_page

from audit.core.evidence import Evidence
from audit.core.statistics import wilson
from audit.document.schema import AuditDocument
from audit.planning.plan import AuditPlan
from audit.report.document import build_document, to_json
from audit.report.html import render_html
from audit.results.run_results import RunResults

NAMES = tuple(f"kind {i}" for i in range(1000))


def document() -> AuditDocument:
    """Labels are every tenth of the first 600 classes; every third image is taken for the class after its own."""
    task, made = accuracy_entry("standard", 1.0, count=120)
    labels = np.arange(120) % 60 * 10
    logits = np.zeros((120, 1000), np.float32)
    logits[np.arange(120), labels + (np.arange(120) % 3 == 0)] = 5
    correct = logits.argmax(1) == labels
    measured = tuple(type(one)(one.name, one.unit, one.better, correct) for one in made.measurements)
    evidence = Evidence(made.cell, "measured", measured, arrays={"logits": logits, "labels": labels})
    results = RunResults(AuditPlan((task,)), {task.cell.key: evidence})
    return build_document(results, made_config(report={"images": False}), made_facts(classes=NAMES))


def test_a_class_without_images_has_no_recall() -> None:
    (part,) = document().accuracy
    assert [row.name for row in part.per_class] == [f"kind {i}" for i in range(0, 600, 10)]
    assert {row.support for row in part.per_class} == {2}


def test_many_classes_give_their_commonest_mistakes_instead_of_a_matrix() -> None:
    (part,) = document().accuracy
    assert part.confusion == [] and part.mistaken == 40
    assert [(one.label, one.prediction, one.count) for one in part.mistakes[:2]] == [
        ("kind 0", "kind 1", 2),
        ("kind 30", "kind 31", 2),
    ]
    assert sum(one.count for one in part.mistakes) == 40


def test_the_document_and_the_page_stay_small_and_say_what_is_absent() -> None:
    built = document()
    page = render_html(built)
    assert len(to_json(built)) < 300_000 and len(page) < 1_500_000
    assert "60 of the model&#39;s 1,000 classes have images here" in page
    assert "Commonest mistakes of the standard model" in page and "Confusion of" not in page


def test_a_class_of_two_images_shows_how_little_two_images_say() -> None:
    """0% or 100% of two images is no certainty, and of a class never predicted there is no precision."""
    built = document()
    (part,) = built.accuracy
    never, always = part.per_class[0], part.per_class[1]
    assert (never.recall, never.predicted, never.precision_interval) == (0.0, 0, None)
    low, high = wilson(0, 2).low, wilson(0, 2).high
    assert never.recall_interval == pytest.approx((low, high), abs=1e-5) and high > 0.6
    assert (always.recall, always.precision, always.predicted) == (1.0, 1.0, 2)
    assert always.recall_interval == pytest.approx((wilson(2, 2).low, 1.0), abs=1e-5)
    assert always.precision_interval == always.recall_interval
    page = render_html(built)
    assert page.count(f'0.0% <span class="bounds">{100 * low:.1f}–{100 * high:.1f}%</span>') == 2 * 20
    table = page[page.index("Precision, recall and F1") :]
    row = table[table.index("kind 0</bdi>") :]
    assert '<td class="num">–</td>' in row[: row.index("</tr>")]


def test_the_first_classes_are_named_and_the_others_fold() -> None:
    page = render_html(document())
    listed = page[page.index("Classes</dt>") : page.index("kind 999")]
    first, fold, rest = listed.partition("and 960 more</summary>")
    assert fold and "kind 39<" in first and "kind 40<" not in first and "kind 40<" in rest
    assert "more</summary>" not in made_page()
