from __future__ import annotations

import re
import string

import pytest
from made_run import made_document, made_page

from audit.attacks.batteries import BATTERIES
from audit.errors import UsageError
from audit.registry import methods
from audit.report.headline import untranslated
from audit.report.locale import languages, load_locale
from audit.report.markdown import render_card, render_markdown
from audit.report.schema import AuditDocument

OTHERS = [language for language in languages() if language != "en"]


@pytest.fixture(scope="module")
def document() -> AuditDocument:
    return made_document()


def fields(template: str) -> set[str]:
    return {name for _, name, _, _ in string.Formatter().parse(template) if name}


def test_english_and_chinese_ship() -> None:
    assert set(languages()) >= {"en", "zh"}


@pytest.mark.parametrize("language", OTHERS)
def test_every_language_says_everything_with_the_same_values(language: str) -> None:
    locale = load_locale(language)
    own = {key: text for key, text in locale.texts.items() if not key.startswith("check.")}
    assert own.keys() == locale.english.keys()
    assert {key: fields(text) for key, text in own.items()} == {k: fields(v) for k, v in locale.english.items()}


@pytest.mark.parametrize("language", OTHERS)
def test_every_check_is_translated_with_values_it_has(language: str) -> None:
    locale = load_locale(language)
    assert untranslated(locale) == []
    for method in methods("check"):
        for part, template in method.facts.items():
            text = locale.texts.get(f"check.{method.name}.{part}")
            if part.startswith(("title", "explanation", "criterion", "advice")):
                assert text is not None, (method.name, part)
                assert fields(text) <= fields(str(template)) | {"role"}, (method.name, part)


@pytest.mark.parametrize("language", OTHERS)
def test_no_english_is_left_in_the_chrome(document: AuditDocument, language: str) -> None:
    page = made_page(language)
    for key, text in load_locale("en").english.items():
        if "{" not in text and len(text) > 24:
            assert text not in page, key


def test_the_chinese_page_reads_as_chinese(document: AuditDocument) -> None:
    page = made_page("zh")
    assert '<html lang="zh-Hans">' in page
    heading = re.search(r"<h1>(.*?)</h1>", page)
    assert heading and heading[1].startswith("尚不能上线：在 linf 0.1 之内的攻击下，标准模型只把")
    assert "尚不能上线" in render_markdown(document, language="zh")
    assert render_card(document, language="zh").startswith("# 模型卡")


def test_a_document_from_disk_reads_like_the_one_in_memory(document: AuditDocument) -> None:
    """Counts stay counts: 24, not 24.0."""
    reread = AuditDocument.model_validate_json(document.model_dump_json())
    assert render_markdown(reread, language="zh") == render_markdown(document, language="zh")
    assert "24.0" not in render_markdown(reread, language="zh")


def test_numbers_are_the_same_in_every_language(document: AuditDocument) -> None:
    shares = [re.findall(r"\d+\.\d%", render_markdown(document, language=name)) for name in ("en", "zh")]
    assert sorted(shares[0]) == sorted(shares[1])


def test_an_unknown_language_lists_those_there_are() -> None:
    with pytest.raises(UsageError, match="Known: en, zh"):
        load_locale("tlh")


def test_the_protocol_of_every_battery_is_told_in_the_words_of_the_battery() -> None:
    english = load_locale("en")
    for name, battery in BATTERIES.items():
        assert english(f"battery_protocol.{name}") == battery.protocol
        assert load_locale("zh").known(f"battery_protocol.{name}", battery.protocol) != battery.protocol
