from __future__ import annotations

import base64
import hashlib
import re
import subprocess
import sys
from html.parser import HTMLParser

import pytest
from made_entries import CLASSES, accuracy_entry, results_of
from made_run import made_config, made_document, made_facts, made_page, made_results

from audit.adversarial.result import unfit_norm
from audit.document.schema import AuditDocument, document_type
from audit.report.document import build_document
from audit.report.html import render_html, signed

HOSTILE = (
    "</script><script>document.title='owned'</script>",
    '"><img src=x onerror="document.title=\'owned\'">',
    "' onmouseover='document.title=1",
    "{{ 7*7 }}",
    "evil\u202egnp.exe",
    "\x1b[31mred\x1b[0m",
    "</style><style>body{display:none}",
    "javascript:alert(1)",
    "]]>&amp;<!--",
    "=HYPERLINK(1)",
)


class Outline(HTMLParser):
    """Tags in order, with a stack that must close."""

    VOID = frozenset("meta link img input br hr rect path line circle".split())

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.faults: list[str] = []
        self.ids: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self.ids += [value for key, value in attrs if key == "id" and value]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        if tag in self.VOID:
            return
        if not self.open or self.open.pop() != tag:
            self.faults.append(tag)


def outline(page: str) -> Outline:
    found = Outline()
    found.feed(page)
    return found


@pytest.fixture(scope="module")
def document() -> AuditDocument:
    return made_document()


@pytest.fixture(scope="module")
def page(document: AuditDocument) -> str:
    return made_page()


def test_the_page_is_a_pure_function_of_the_document(document: AuditDocument, page: str) -> None:
    again = document_type().model_validate_json(document.model_dump_json())
    assert render_html(again) == page


def test_the_page_is_well_formed_with_unique_ids(page: str) -> None:
    found = outline(page)
    assert found.faults == [] and found.open == []
    assert len(found.ids) == len(set(found.ids))


def test_every_link_within_the_page_has_its_target(page: str) -> None:
    found = outline(page)
    links = [a["href"] for tag, a in found.tags if tag == "a"]
    assert links and all(str(link).startswith("#") and str(link)[1:] in found.ids for link in links)


def test_nothing_points_outside_the_file(page: str) -> None:
    for tag, attributes in outline(page).tags:
        for key in ("src", "href", "xlink:href", "data", "action", "poster"):
            value = attributes.get(key)
            assert value is None or str(value).startswith(("data:", "#")), (tag, key, value)
    assert "@import" not in page and "url(http" not in page


def test_the_policy_admits_exactly_the_inline_style_and_script(page: str) -> None:
    (policy,) = re.findall(r'Content-Security-Policy" content="([^"]+)"', page)
    for kind in ("style", "script"):
        (body,) = re.findall(rf"<{kind}>(.*?)</{kind}>", page, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(body.encode()).digest()).decode()
        assert f"{kind}-src &#39;sha256-{digest}&#39;".replace("&#39;", "'") in policy.replace("&#39;", "'")
    assert "unsafe" not in policy


def test_no_attribute_needs_what_the_policy_forbids(page: str) -> None:
    for _, attributes in outline(page).tags:
        assert "style" not in attributes
        assert not [name for name in attributes if name.startswith("on")]


def test_the_verdict_stands_before_everything_else(document: AuditDocument, page: str) -> None:
    order = [page.index(f'id="{name}"') for name in ("verdict", "findings", "accuracy", "robustness", "gallery")]
    assert order == sorted(order)
    assert page.index("Not ready to ship") < page.index('id="findings"')


def test_every_number_at_a_glance_is_the_documents(document: AuditDocument, page: str) -> None:
    head = page[page.index('id="verdict"') : page.index('id="findings"')]
    for part in document.accuracy:
        assert f"{part.accuracy.estimate:.1%}" in head
        assert f"{100 * part.accuracy.low:.1f}–{100 * part.accuracy.high:.1f}%" in head


def test_charts_have_text_alternatives_and_follow_the_theme(page: str) -> None:
    drawn = re.findall(r'<svg class="chart".*?</svg>', page, re.DOTALL)
    assert len(drawn) == 4
    for chart in drawn:
        assert 'role="img"' in chart and "<title>" in chart and "<desc>" in chart
        assert "var(--series-1)" in chart and "var(--series-2)" in chart


def test_hostile_names_are_text(document: AuditDocument) -> None:
    facts = made_facts(classes=HOSTILE)
    page = render_html(build_document(made_results(), made_config(report={"title": HOSTILE[0]}), facts))
    found = outline(page)
    assert found.faults == [] and found.open == []
    assert [tag for tag, _ in found.tags].count("script") == 1
    assert [tag for tag, _ in found.tags].count("style") == 1
    assert not [a for _, a in found.tags if any(name.startswith("on") for name in a)]
    assert "\u202e" not in page and "\x1b" not in page
    assert "&lt;U+202E&gt;" in page and "{{ 7*7 }}" in page


def test_parts_that_were_not_measured_are_left_out() -> None:
    page = render_html(build_document(results_of(accuracy_entry("standard", 0.9)), made_config(), made_facts()))
    assert 'id="accuracy"' in page and 'id="robustness"' not in page and 'href="#robustness"' not in page


def test_an_empty_run_renders() -> None:
    page = render_html(build_document(results_of(), made_config(report={"images": False}), made_facts()))
    assert "there is no verdict" in page


def test_a_document_without_the_newer_parts_still_renders(document: AuditDocument) -> None:
    older = document.model_dump()
    for name in ("gaps", "example_ids", "outcomes"):
        del older[name]
    for finding in older["findings"]:
        del finding["values"]
    assert CLASSES[0] in render_html(document_type().model_validate(older))


def test_rendering_loads_no_torch() -> None:
    code = "import sys, audit.report.html, audit.report.document; assert 'torch' not in sys.modules"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_path_method_that_ran_out_of_steps_is_said_under_the_table(document: AuditDocument, page: str) -> None:
    quality = {"closed": 0.75, "completeness_error": 0.02, "path_error": 0.3, "steps": 256.0}
    row = document.explanations[0].model_copy(update={"quality": quality, "settings": {"max_steps": 256}})
    told = render_html(document.model_copy(update={"explanations": (row, *document.explanations[1:])}))
    assert "on 25% of its images the output bends too much for 256 steps" in told
    assert "by 2.0% on average, the stretches of the line one by one by 30.0%" in told
    assert "the output bends too much" not in page


@pytest.mark.parametrize(
    ("language", "words"),
    [("en", "besides 11,182 masks that SHAP had asked"), ("zh", "另有 11,182 个掩码的输出取自 SHAP")],
)
def test_what_a_method_took_from_another_stands_beside_its_cost(
    document: AuditDocument, language: str, words: str
) -> None:
    shared = document.explanations[0].model_copy(update={"shared": {"shap": 11182}})
    told = document.model_copy(update={"explanations": (shared, *document.explanations[1:])})
    assert words in render_html(told, language=language)
    assert words not in render_html(document, language=language)


def test_colours_of_maps_are_explained_where_there_are_maps(document: AuditDocument, page: str) -> None:
    bare = [
        item.model_copy(update={"views": [view.model_copy(update={"maps": {}}) for view in item.views]})
        for item in document.gallery
    ]
    without = render_html(document.model_copy(update={"gallery": bare, "explanations": []}))
    assert "Red raises the score" in page
    assert "not chosen by hand" in without and "Red raises the score" not in without


def test_accuracies_of_a_training_are_percentages_of_held_out_images(document: AuditDocument) -> None:
    history = [{"epoch": 1, "loss": 1.25, "clean_accuracy": 0.4062, "learning_rate": 0.002}]
    models = [document.models[0].model_copy(update={"history": history})]
    page = render_html(document.model_copy(update={"models": models}))
    table = page[page.index("Training, epoch by epoch") :]
    table = table[: table.index("</table>")]
    assert "accuracy on held-out images" in table
    assert re.findall(r'<td class="num">([^<]*)</td>', table) == ["1", "1.25", "40.6%", "0.002"]


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("is -0.022 (interval -0.079 to +0.035)", "is −0.022 (interval −0.079 to +0.035)"),
        ("5.4e-10, 3-5 of cnn-28", "5.4e-10, 3-5 of cnn-28"),
    ],
)
def test_negative_numbers_carry_a_minus_and_names_keep_their_hyphens(written: str, read: str) -> None:
    assert signed(written) == read


def test_findings_are_written_with_a_minus(document: AuditDocument) -> None:
    worse = document.findings[0].model_copy(update={"explanation": "It is -0.022 ahead."})
    page = render_html(document.model_copy(update={"findings": [worse, *document.findings[1:]]}))
    assert "It is −0.022 ahead." in page and "It is -0.022" not in page


def test_an_attack_that_could_not_run_reads_not_applicable_and_not_zero() -> None:
    document = made_document().model_copy(deep=True)
    attacks = document.robustness[0].attacks
    reason = unfit_norm(["l2"], "linf")
    attacks[0] = attacks[0].model_copy(update={"name": "carlini-wagner", "tried": 0, "broke": 0, "reason": reason})
    assert f'colspan="6" class="small">Not applicable: {reason}' in render_html(document)
    assert "不适用：该攻击适用于 l2，不适用于 linf。" in render_html(document, language="zh")


def test_the_packages_of_the_field_stand_beside_our_answers(page: str) -> None:
    table = page[page.index('id="packages"') :]
    table = table[: table.index("</table>")]
    assert "lime 0.2.0.1" in table and "LimeImageExplainer" in table and '<td class="num">1e-07</td>' in table
    assert "the package failed: it moved" in table and table.count("<tr>") == 3
