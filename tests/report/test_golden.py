from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from made_run import made_config, made_facts, made_results

from audit.document.schema import AuditDocument
from audit.report.document import build_document, read_document, to_json
from audit.report.html import render_html
from audit.report.junit import render_junit
from audit.report.markdown import render_card, render_markdown
from audit.report.sarif import render_sarif

GOLDEN = Path(__file__).parent / "golden"
RENDERINGS: dict[str, Callable[[AuditDocument], str]] = {
    "summary.en.md": render_markdown,
    "summary.zh.md": lambda document: render_markdown(document, language="zh"),
    "card.en.md": render_card,
    "junit.xml": render_junit,
    "audit.sarif": render_sarif,
}


@pytest.fixture(scope="module")
def golden() -> AuditDocument:
    return read_document(GOLDEN / "audit.json")


def hold(name: str, text: str) -> None:
    """Compare with the file kept; UPDATE_GOLDEN=1 writes it instead."""
    place = GOLDEN / name
    if os.environ.get("UPDATE_GOLDEN"):
        place.parent.mkdir(exist_ok=True)
        place.write_text(text, encoding="utf-8")
    assert text == place.read_text(encoding="utf-8"), f"{name} changed; if it should, run with UPDATE_GOLDEN=1"


def test_the_document_is_the_golden_one() -> None:
    """Without pictures, whose bytes are the codec's affair, and without the defaults of the configuration."""
    config = made_config(report={"images": False})
    built = json.loads(to_json(build_document(made_results(), config, made_facts())))
    built["protocol"]["configuration"] = {}
    hold("audit.json", json.dumps(built, indent=1, sort_keys=True, ensure_ascii=False) + "\n")


@pytest.mark.parametrize("name", sorted(RENDERINGS))
def test_renderings_of_the_golden_document_are_the_golden_ones(name: str, golden: AuditDocument) -> None:
    hold(name, RENDERINGS[name](golden))


@pytest.mark.parametrize("language", ["en", "zh"])
def test_the_golden_document_renders_as_a_page(language: str, golden: AuditDocument) -> None:
    page = render_html(golden, language=language)
    for part in golden.accuracy:
        assert f"{part.accuracy.estimate:.1%}" in page
