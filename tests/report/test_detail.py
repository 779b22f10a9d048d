from __future__ import annotations

import pytest
from made_entries import pictures
from made_run import made_config, made_document, made_facts, made_results

from audit.core.errors import UsageError
from audit.document.locale import load_locale
from audit.report.document import build_document
from audit.report.gallery_size import limit_gallery, without_images
from audit.report.html import render_html
from audit.report.summary import overall_verdict, verdict_sentences


def test_a_detailed_run_can_be_shown_short() -> None:
    images = pictures(40)
    document = build_document(made_results(images), made_config(report={"gallery": 200}), made_facts(images))
    assert len(document.gallery) == 40 == len(limit_gallery(document, 200).gallery)
    assert [item.id for item in limit_gallery(document, 16).gallery] == [i.id for i in document.gallery[:16]]
    assert limit_gallery(document, None) is document


def test_a_short_run_cannot_be_shown_in_detail() -> None:
    with pytest.raises(UsageError, match=r"kept 16 images.*--detail high"):
        limit_gallery(made_document(), 200)


def test_without_images_the_page_holds_none_and_every_number() -> None:
    bare = render_html(without_images(made_document()))
    assert "data:image" not in bare and "Images were left out" in bare
    assert "data:image" in render_html(made_document())
    for part in made_document().accuracy:
        assert f"{part.accuracy.estimate:.1%}" in bare
    assert len(bare) < len(render_html(made_document())) / 1.5


def test_a_part_of_a_run_is_no_verdict_unless_it_fails() -> None:
    partial = build_document(made_results(), made_config(only=["robustness"]), made_facts())
    assert partial.summary.verdict == "fail" and partial.summary.sentence.startswith("Not ready to ship")
    passed = [finding for finding in made_document().findings if finding.verdict == "pass"]
    roles, en = ("standard", "hardened"), load_locale("en")
    assert (overall_verdict(passed, roles), overall_verdict(passed, roles, ["accuracy"])) == ("pass", "inconclusive")
    assert "only a part was measured" in verdict_sentences(passed, roles, en, ["accuracy"])[0]
    assert "只测量了一部分" in verdict_sentences(passed, roles, load_locale("zh"), ["accuracy"])[0]
    assert verdict_sentences(passed, roles, en)[0].startswith("Every check passes")
