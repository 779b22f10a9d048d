"""Compiled templates are found again, made anew where the template changed, and done without where nothing is kept."""

from __future__ import annotations

from pathlib import Path

import pytest
from jinja2 import DictLoader, Environment

from audit.report.compiled_templates import CompiledTemplates
from audit.report.html import page_environment, render_html
from audit.report.warm_up import warm_up
from tests.made_run import made_document


class Counting(Environment):
    compiled = 0

    def _generate(self, *given: object, **named: object) -> str:
        self.compiled += 1
        return super()._generate(*given, **named)  # type: ignore[arg-type]


def rendered(text: str) -> tuple[str, int]:
    """The page of a template in a new environment, and how many templates were compiled for it."""
    environment = Counting(loader=DictLoader({"page": text}), bytecode_cache=CompiledTemplates())
    return environment.get_template("page").render(n=7), environment.compiled


def test_a_template_is_compiled_once_until_it_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUDIT_CACHE_DIR", str(tmp_path / "cache"))
    assert [rendered("a {{ n }}") for _ in range(2)] == [("a 7", 1), ("a 7", 0)]
    assert rendered("b {{ n }}") == ("b 7", 1)
    (kept,) = (tmp_path / "cache").rglob("*.jinja")
    kept.write_bytes(kept.read_bytes()[:-9])
    assert rendered("b {{ n }}") == ("b 7", 1)


def test_a_folder_that_cannot_be_written_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("AUDIT_CACHE_DIR", str(tmp_path / "file"))
    assert [rendered("a {{ n }}") for _ in range(2)] == [("a 7", 1)] * 2


def test_warming_up_compiles_what_a_page_needs_and_raises_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG", "audit")
    monkeypatch.setenv("AUDIT_CACHE_DIR", str(tmp_path / "cache"))
    page_environment.cache_clear()
    warm_up()
    kept = {path.name for path in (tmp_path / "cache").rglob("*.jinja")}
    render_html(made_document())
    assert kept and {path.name for path in (tmp_path / "cache").rglob("*.jinja")} == kept and not caplog.records
    monkeypatch.setattr("audit.report.html.page_environment", lambda: 1 / 0)
    warm_up()
    assert [record.message for record in caplog.records] == ["The report could not be prepared"]
    page_environment.cache_clear()
