"""The section on the data, on the page in both languages, and its pictures where there may be some."""

from __future__ import annotations

import numpy as np
import pytest
from made_entries import accuracy_entry, entry, pictures, results_of
from made_run import made_config, made_facts

from audit.core.cell import Cell
from audit.core.evidence import Evidence
from audit.document.schema import AuditDocument
from audit.planning.plan import Slice, Task
from audit.report.document import build_document, to_json
from audit.report.html import render_html
from audit.results.run_results import RunResults
from audit.topics.data_health.facts import HealthFacts, IssueFacts, KindFacts, PartFacts
from audit.topics.data_health.section import LISTED, DataIssueRow, LeakRow


def issues() -> list[IssueFacts]:
    copies = [
        IssueFacts(issue="leak", split="test", image=f"test/{i:05d}", label="Bag", partner=f"train/<b>{i}</b>",
                   partner_split="train", partner_label="Bag", score=0.97, symmetry=1)
        for i in range(LISTED + 5)
    ]  # fmt: skip
    wrong = IssueFacts(
        issue="label", split="train", image="train/00009", label="Coat", partner_label="Shirt", score=0.9
    )
    return [*copies, wrong, IssueFacts(issue="blank", split="train", image="train/00010")]


def results() -> RunResults:
    facts = HealthFacts(
        parts=(
            PartFacts(split="train", images=800, blank=1, unusual=0, duplicated=0, counts=(80,) * 10),
            PartFacts(split="test", images=400, blank=0, unusual=0, duplicated=0, counts=(40,) * 10),
        ),
        issues=tuple(issues()),
        kinds=(
            KindFacts(split="train", name="colour", values=2, information=0.5, expected=0.01, p_value=0.001,
                      guessed=0.6, anyway=0.1, label="Coat", value="grey"),
        ),
        auc=0.7, auc_interval=(0.66, 0.74), compared=800, p_value=0.002, leaked=30,
    )  # fmt: skip
    shown = pictures(2).repeat(3, axis=0).reshape(2, 3, 1, 28, 28)
    arrays = {"leaked": np.arange(30), "shown": np.array([0, LISTED + 5]), "pictures": shown}
    cell = Cell("data-health", "survey", model="standard")
    evidence = Evidence(cell, "measured", arrays=arrays, facts=facts.dump())
    robust = entry("robustness", "standard", {"robust": np.arange(100) % 2}, threat={"norm": "linf", "eps": 0.1})
    return results_of(
        (Task(cell, "standard", Slice("test", 0, 0), 0), evidence), accuracy_entry("standard", 0.9), robust
    )


def document(*, images: bool = True) -> AuditDocument:
    built = build_document(results(), made_config(report={"images": images}), made_facts())
    return type(built).model_validate_json(to_json(built))


@pytest.mark.parametrize(
    ("language", "title"),
    [("en", "Test images that are copies of training images"), ("zh", "与训练图像互为副本的测试图像")],
)
def test_the_page_names_and_shows_what_is_to_be_mended(language: str, title: str) -> None:
    page = render_html(document(), language=language)
    assert title in page and "test/00000" in page and "train/00009" in page
    assert "<b>0</b>" not in page  # a name is text, whatever it holds
    assert ("mirrored" if language == "en" else "左右镜像") in page


def test_the_document_lists_the_first_of_each_kind_and_says_what_leaks_do() -> None:
    rows = document().rows(DataIssueRow)
    assert [row.issue for row in rows] == ["leak"] * LISTED + ["label", "blank"]
    assert [row.image for row in rows if row.picture] == ["test/00000", "train/00009"]
    (leak,) = document().rows(LeakRow)
    assert leak.clean is not None and leak.clean_without is not None and leak.robust_without is not None
    assert (leak.clean.n, leak.clean_without.n, leak.robust_without.n) == (400, 370, 70)


def test_without_pictures_the_names_stay() -> None:
    rows = document(images=False).rows(DataIssueRow)
    assert len(rows) == LISTED + 2 and not any(row.picture for row in rows)
