"""A document written by an early version of the suite: what later versions must go on reading."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest

from audit.document.schema import AuditDocument, document_type
from audit.report.document import read_document, schema_json
from audit.report.formats import FORMATS, render
from audit.report.history import history

OLDER = Path(__file__).parent / "golden" / "older.json"


@pytest.fixture(scope="module")
def older() -> AuditDocument:
    return read_document(OLDER)


def test_it_lacks_parts_that_documents_have_today() -> None:
    """Else the tests below hold nothing."""
    assert json.loads(OLDER.read_text("utf-8")).keys() < document_type().model_fields.keys()


def test_it_obeys_the_schema_of_today() -> None:
    jsonschema.validate(json.loads(OLDER.read_text("utf-8")), json.loads(schema_json()))


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("language", ["en", "zh"])
def test_it_renders_with_its_numbers(form: str, language: str, older: AuditDocument) -> None:
    text = render(older, FORMATS[form], language=language)
    if form in ("html", "card"):
        assert all(f"{part.accuracy.estimate:.1%}" in text for part in older.accuracy)
    assert len(text) > 1000


def test_it_stands_in_the_history(tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    (run / "audit.json").write_bytes(OLDER.read_bytes())
    (row,) = history(tmp_path).rows
    assert row.problem == "" and {level.quantity for level in row.levels} == {"clean", "robust"}
