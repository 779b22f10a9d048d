"""The section on explanations opens with what the model goes by, and folds the matrix of methods below."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
from made_entries import accuracy_entry, explanation_entries, faithfulness_entries, pictures, results_of
from made_run import CLASSES, made_config, made_facts

from audit.core.cell import Cell
from audit.core.evidence import Evidence, Measurement
from audit.document.schema import AuditDocument
from audit.planning.plan import Slice, Task
from audit.report.document import build_document
from audit.report.gallery_size import without_images
from audit.report.html import render_html
from audit.topics.concepts.facts import ConceptClassFacts, ConceptsFacts
from audit.topics.concepts.section import ConceptRow

EXAMPLES, SIDE = 12, 28


def concept_entry(role: str, swapped: bool) -> tuple[Task, Evidence]:
    """Two classes of two concepts, the upper half and the lower; in a swapped model the other one leads."""
    draw = np.random.default_rng(3)
    class_of = np.arange(EXAMPLES) % 2
    maps = np.zeros((EXAMPLES, 2, 6, 6), np.float16)
    upper, lower = (1, 0) if swapped else (0, 1)
    maps[:, upper, :2], maps[:, lower, 4:] = 1, 1
    strength = np.array([0.7, 0.2])[None] + 0.01 * draw.normal(size=(EXAMPLES, 2))
    arrays: dict[str, Any] = {
        "class_of": class_of,
        "maps": maps,
        "sensitivity": strength,
        "deletion": 3 * strength,
        "deletion_control": 0.1 * strength,
        "insertion": 3 * strength,
        "insertion_control": 0.1 * strength,
        "tcav": np.full((2, 2), 0.9),
        "tcav_random": np.full((2, 1), 0.5),
        "along": np.full((2, 2), 3.0),
        "along_random": draw.normal(size=(2, 20)),
        "shown": draw.integers(0, 255, (2, 2, 3, 1, SIDE, SIDE)).astype(np.uint8),
        "shown_maps": np.full((2, 2, 3, SIDE, SIDE), 200, np.uint8),
    }
    facts = ConceptsFacts(
        layer="relu2",
        replays=True,
        classes=tuple(
            ConceptClassFacts(index=index, label=CLASSES[index], images=EXAMPLES // 2, concepts=2) for index in (0, 1)
        ),
    )
    cell = Cell("concepts", "craft", settings={"random": 20}, model=role)
    explained = Measurement("explained", "share", "higher", np.full(EXAMPLES, 0.8))
    evidence = Evidence(cell, "measured", (explained,), arrays=arrays, facts=facts.dump())
    return Task(cell, role, Slice("test", 0, EXAMPLES), 0), evidence


def document(*, with_concepts: bool = True) -> AuditDocument:
    images = pictures(24)
    entries = []
    for role in ("standard", "hardened"):
        entries += [accuracy_entry(role, 0.9), *explanation_entries(role, images), *faithfulness_entries(role)]
        entries += [concept_entry(role, role == "hardened")] if with_concepts else []
    return build_document(results_of(*entries), made_config(), made_facts(images))


def section_of(page: str) -> str:
    start = page.index('<h2 id="explanations">')
    return page[start : page.index("</section>", start)]


def test_the_section_opens_with_a_card_a_class_and_folds_the_methods() -> None:
    section = section_of(render_html(document()))
    opening, _, folded = section.partition('<details class="matrix">')
    assert opening.count('<article class="card">') == 2 and f"<h4>{CLASSES[0]}" in re.sub("<bdi>", "", opening)
    assert "importance 70" in opening and "at the top" in opening
    assert 'id="methods"' in folded and 'id="methods"' not in opening
    assert "<figure>" in opening and "data:image/webp" in opening


def test_without_concepts_nothing_is_folded() -> None:
    section = section_of(render_html(document(with_concepts=False)))
    assert "matrix" not in section and 'id="methods"' in section


def test_the_hardened_models_concept_is_matched_by_its_maps_with_its_importance_before() -> None:
    rows = [row for row in document().rows(ConceptRow) if row.role == "hardened" and row.label == CLASSES[0]]
    assert [row.counterpart for row in rows] == [2, 1]
    assert abs((rows[0].before or 0) - 0.2) < 0.05 and (rows[0].cosine or 0) > 0.99
    assert "leads with the same as concept 2" in render_html(document())


def test_both_languages_have_the_cards_and_a_document_without_images_has_none_of_its_pictures() -> None:
    page = render_html(document(), language="zh")
    assert "模型依据什么" in page and "概念 1" in page
    bare = section_of(render_html(without_images(document())))
    assert "importance 70" in bare and "data:image" not in bare
