from __future__ import annotations

import ast
import re
import string
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from made_run import made_document, made_page

from audit.adversarial.batteries import BATTERIES
from audit.core.errors import UsageError
from audit.core.registry import methods
from audit.document.locale import languages, load_locale
from audit.document.schema import AuditDocument, document_type
from audit.explanation.self_test import GAMES
from audit.masking.segmentation import check_segments, segment_images
from audit.report.markdown import render_card, render_markdown
from audit.topics.faithfulness.curves import protocol
from audit.topics.faithfulness.facts import FaithfulnessSettings

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
    own = {key: text for key, text in locale.texts.items() if not key.startswith(("check.", "method."))}
    assert own.keys() == locale.english.keys()
    assert {key: fields(text) for key, text in own.items()} == {k: fields(v) for k, v in locale.english.items()}


@pytest.mark.parametrize("language", OTHERS)
def test_every_check_is_translated_with_values_it_has(language: str) -> None:
    locale = load_locale(language)
    assert [m.name for m in methods("check") if not locale.has(f"check.{m.name}.title_pass")] == []
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
    reread = document_type().model_validate_json(document.model_dump_json())
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


def written_in_the_code() -> Iterator[str]:
    """Every text of the program, its formatted values as an x."""
    for path in (Path(__file__).parents[2] / "audit").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield node.value
            elif isinstance(node, ast.JoinedStr):
                yield "".join(str(part.value) if isinstance(part, ast.Constant) else "x" for part in node.values)


COMPOSED = (
    *(f"phrase.n_{name}" for name in ("cut", "resized", "skipped", "exif", "alpha", "cmyk", "deep", "frames")),
    "phrase.m_better",
)
"""Put together from pieces: `test_chinese_notes.py` holds them."""


def test_every_phrase_is_one_that_a_study_writes() -> None:
    said = set(written_in_the_code())
    for key, text in load_locale("en").english.items():
        if key.startswith("phrase.") and not key.startswith(("phrase.segments", "phrase.game", *COMPOSED)):
            pattern = re.compile("".join(".+?" if p[:1] == "{" else re.escape(p) for p in re.split(r"(\{\w+\})", text)))
            assert any(pattern.fullmatch(one) for one in said), key


def test_what_studies_write_is_read_in_chinese() -> None:
    chinese = load_locale("zh")
    images = torch.rand(3, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    blank, pieces = torch.zeros(2, 1, 28, 28), torch.arange(28)[:, None].expand(28, 28) // 10
    said = [protocol(FaithfulnessSettings()), *(f"game: {name}" for name in GAMES)]
    said += [segment_images(some).description for some in (images, blank)]
    said += [check_segments(one, blank).description for one in (pieces, pieces * 10 + pieces.T // 2)]
    said += [
        "The gradient of cross-entropy is NaN on 7% of the images. The model gives NaN or infinity on 2% of the images."
    ]
    for text in said:
        assert re.search(r"[\u4e00-\u9fff]", chinese.phrase(text)), text
        assert not re.search(r"[a-z]{3,} [a-z]{3,}", chinese.phrase(text)), chinese.phrase(text)
        assert re.findall(r"\d+", text) == re.findall(r"\d+", chinese.phrase(text)) or "fewer than" in text
        assert load_locale("en").phrase(text) == text
    assert (
        chinese.phrase("A class called game: or slic, says nothing.") == "A class called game: or slic, says nothing."
    )
    assert chinese.word("segment-mean") == "分块均值" and chinese.word("0.5") == "0.5"


PROPER = frozenset(
    "APGD-CE APGD-DLR APGD-T Brendel-Bethge Carlini-Wagner DDN DeepFool DeepLIFT DeepSHAP EAD FAB-T FGSM FGSM-RS FMN "
    "Free Grad-CAM Grad-CAM++ HopSkipJump LIME LRP Layer-CAM MART MI-FGSM PGD RISE SHAP SmoothGrad Square "
    "TRADES".split()
)
"""Names that are the same in every language."""


def test_every_method_has_a_chinese_name_or_a_proper_one() -> None:
    chinese, english = load_locale("zh"), load_locale("en")
    kinds = ("attribution", "attack", "corruption", "recipe")
    names = [method.name for kind in kinds for method in methods(kind)]
    names += [entry.title for battery in BATTERIES.values() for entry in battery.entries]
    for name in names:
        said = chinese.method(name)
        assert said in PROPER or re.search(r"[\u4e00-\u9fff]", said), f"{name} lacks a name in [method] of zh.toml"
        assert said not in PROPER or said == english.method(name)


@pytest.mark.parametrize("form", ["html", "card"])
def test_methods_go_by_their_chinese_names_wherever_they_stand(document: AuditDocument, form: str) -> None:
    page = made_page("zh") if form == "html" else render_card(document, language="zh")
    assert "积分梯度" in page and "高斯噪声" in page
    for name in ("Integrated gradients", "integrated-gradients,", "Gaussian noise", "Interval bounds", "Occlusion"):
        assert name not in page


def test_no_english_stands_inside_a_chart() -> None:
    for chart in re.findall(r"<svg.*?</svg>", made_page("zh"), re.DOTALL):
        assert "aria-label" not in chart and not re.search(
            r"[a-z]{3,} [a-z]{3,} [a-z]{3,}", re.sub(r"<[^>]*>", " ", chart)
        )
