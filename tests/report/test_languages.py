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
from audit.adversarial.result import unfit_norm
from audit.adversarial.thresholds import THRESHOLDS
from audit.core.errors import UsageError
from audit.core.note import NO_NOTE, Note, note
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
    own = {key: text for key, text in locale.texts.items() if not key.startswith(("check.", "method.", "note."))}
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
    assert "\n---\n\n# 模型卡" in render_card(document, language="zh")


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
        assert load_locale("zh").translate_default(f"battery_protocol.{name}", battery.protocol) != battery.protocol


def notes_in_the_code() -> Iterator[tuple[str, str, str]]:
    """File, key and English template of every call of `note` in the package."""
    for path in (Path(__file__).parents[2] / "audit").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "note":
                key, text = (ast.literal_eval(argument) for argument in node.args)
                yield path.name, key, text


def test_a_key_has_one_template() -> None:
    templates: dict[str, str] = {}
    for file, key, text in notes_in_the_code():
        assert templates.setdefault(key, text) == text, (file, key)
    assert len(templates) > 100


@pytest.mark.parametrize("language", OTHERS)
def test_every_note_of_the_package_is_translated_with_its_values_and_no_other(language: str) -> None:
    english = {key: text for _, key, text in notes_in_the_code()}
    texts = load_locale(language).texts
    translated = {key.removeprefix("note."): text for key, text in texts.items() if key.startswith("note.")}
    assert translated.keys() == english.keys()
    assert {key: fields(text) for key, text in translated.items()} == {k: fields(v) for k, v in english.items()}


def test_no_language_table_holds_english_notes() -> None:
    """The English stands where it is said; the table of a language is looked up by key, never searched for text."""
    assert not any(key.startswith(("note.", "phrase.")) for key in load_locale("en").english)
    for file in ("document/locale.py", "report/summary.py", "report/view.py"):
        tree = ast.parse((Path(__file__).parents[2] / "audit" / file).read_text("utf-8"))
        imported = {name.name for node in ast.walk(tree) if isinstance(node, ast.Import) for name in node.names}
        assert "re" not in imported, file


def test_a_note_of_no_language_shows_its_english() -> None:
    chinese = load_locale("zh")
    assert chinese.note(note("of_a_plugin", "Made of {stuff}.", stuff="wood")) == "Made of wood."
    assert (
        chinese.note("A plain sentence.")
        == chinese.note(Note.model_validate("A plain sentence."))
        == "A plain sentence."
    )
    assert chinese.note(note("no_map", "Another template, of {another} version.", another="an older")) == (
        "Another template, of an older version."
    )
    assert chinese.note(NO_NOTE) == ""


def test_notes_within_notes_and_words_are_translated_too() -> None:
    chinese, english = load_locale("zh"), load_locale("en")
    none_ran = THRESHOLDS["no_attack_ran"].sentence.filled(reason=unfit_norm(["l2"], "linf"))
    assert (
        chinese.note(none_ran) == "攻击组中没有任何攻击得以运行，因此没有经过任何检验：该攻击适用于 l2，不适用于 linf。"
    )
    blind = THRESHOLDS["battery_ce_nan"].sentence.filled(share="7%", title=["cross-entropy"], word=["not finite"])
    assert chinese.note(blind) == "交叉熵的梯度中有 7% 不是有限数：依循梯度的攻击什么也看不见。"
    assert english.note(blind) == (
        "7% of the gradients of cross-entropy are not finite: attacks that follow them see nothing."
    )
    assert "以图像均值、模糊填充；所解释类别的概率" in chinese.note(protocol(FaithfulnessSettings()))


def test_a_note_is_the_same_after_json() -> None:
    said = THRESHOLDS["no_attack_ran"].sentence.filled(reason=unfit_norm(["l2"], "linf"))
    assert Note.model_validate_json(said.model_dump_json()) == said
    assert Note.model_validate("plain").model_dump_json() == '"plain"'


def test_what_studies_write_is_read_in_chinese() -> None:
    chinese = load_locale("zh")
    images = torch.rand(3, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    blank, pieces = torch.zeros(2, 1, 28, 28), torch.arange(28)[:, None].expand(28, 28) // 10
    said = [protocol(FaithfulnessSettings()), *GAMES]
    said += [segment_images(some).description for some in (images, blank)]
    said += [check_segments(one, blank).description for one in (pieces, pieces * 10 + pieces.T // 2)]
    said += [THRESHOLDS["ce_nan"].sentence.filled(share="7%"), THRESHOLDS["not_finite"].sentence.filled(share="2%")]
    for written in said:
        text, translated = written.text, chinese.note(written)
        assert re.search(r"[\u4e00-\u9fff]", translated), text
        assert not re.search(r"[a-z]{3,} [a-z]{3,}", translated), translated
        assert re.findall(r"\d+", text) == re.findall(r"\d+", translated) or "fewer than" in text
        assert load_locale("en").note(written) == text
    named = "A class called game: or slic, says nothing."
    assert chinese.note(named) == named
    assert chinese.word("segment-mean") == "分块均值" and chinese.word("0.5") == "0.5"


PROPER = frozenset(
    "APGD-CE APGD-DLR APGD-T Brendel-Bethge CROWN-IBP Carlini-Wagner DDN DeepFool DeepLIFT DeepSHAP EAD FAB-T FGSM "
    "FGSM-RS FMN Free Grad-CAM Grad-CAM++ HopSkipJump IBP LIME LRP Layer-CAM MART MI-FGSM MTL-IBP PDPGD PGD RISE "
    "SHAP Sigma-zero SmoothGrad Square TRADES".split()
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
