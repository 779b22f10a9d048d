from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from made_run import made_config, made_document, made_facts, made_page, made_page_of, made_results

from audit.report.document import build_document
from audit.report.html import render_html

PHONE = {"viewport": {"width": 390, "height": 844}}
HOSTILE = (
    "</script><script>document.title='owned'</script>",
    '"><img src=x onerror="document.title=\'owned\'">',
    "' autofocus onfocus='document.title=\"owned\"",
    "<svg/onload=document.title='owned'>",
    "evil\u202egnp.exe",
    "\x1b[31mred\x1b[0m",
    "</style><style>body{display:none}",
    "<base href=https://example.org/>",
    "<meta http-equiv=refresh content=0;url=https://example.org/>",
    "<iframe src=https://example.org/></iframe>",
)

Open = Callable[..., Any]


@pytest.fixture(scope="module")
def report() -> str:
    return made_page()


@pytest.fixture(scope="module")
def hostile() -> str:
    config = made_config(report={"title": HOSTILE[0]})
    return render_html(build_document(made_results(), config, made_facts(classes=HOSTILE)))


def shown(page: Any) -> int:
    return int(page.locator(".item:visible").count())


def test_the_report_says_nothing_on_the_console_and_asks_for_nothing(open_page: Open, report: str) -> None:
    opened = open_page(report)
    opened.page.mouse.wheel(0, 20_000)
    opened.page.wait_for_function("document.images.length > 0 && [...document.images].every(i => i.complete)")
    assert opened.messages == []
    assert [url for url in opened.requests if not url.startswith("data:")] == []
    broken = "[...document.querySelectorAll('main img')].filter(i => i.naturalWidth === 0).length"
    assert opened.page.evaluate(broken) == 0


def test_hostile_names_run_nothing_and_ask_for_nothing(open_page: Open, hostile: str) -> None:
    opened = open_page(hostile)
    opened.page.wait_for_load_state("load")
    assert "owned" not in opened.page.title().replace(HOSTILE[0], "")
    assert opened.page.title().startswith(HOSTILE[0])
    assert opened.messages == []
    assert [url for url in opened.requests if not url.startswith("data:")] == []
    assert opened.page.locator("iframe, base, main script, main style").count() == 0
    assert opened.page.locator("h1").is_visible()
    assert opened.page.get_by_text("evil<U+202E>gnp.exe").count() > 0


def test_the_guard_would_notice_a_script_that_is_not_ours(open_page: Open, report: str) -> None:
    """The policy, and this test's ears: an injected script is refused and heard of."""
    opened = open_page(report.replace("</main>", "<script>document.title='owned'</script></main>"))
    assert opened.page.title() != "owned"
    assert any("Content Security Policy" in message for message in opened.messages)


def test_everything_can_be_read_without_script(open_page: Open, report: str) -> None:
    page = open_page(report, java_script_enabled=False).page
    assert "Not ready to ship" in page.locator("h1").inner_text()
    assert not page.locator("#filters").is_visible() and not page.locator(".copy").first.is_visible()
    assert shown(page) == 16
    item = page.locator(".item").first
    assert item.locator(".method-0").first.is_visible() and not item.locator(".method-1").first.is_visible()
    page.locator("#method-1").check()
    assert item.locator(".method-1").first.is_visible() and not item.locator(".method-0").first.is_visible()


@pytest.mark.parametrize("width", [320, 390, 768, 1280])
def test_no_width_scrolls_sideways(open_page: Open, report: str, width: int) -> None:
    page = open_page(report, viewport={"width": width, "height": 800}).page
    page.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_the_gallery_filters_sorts_and_searches(open_page: Open, report: str) -> None:
    page = open_page(report).page
    page.select_option("#filter-state", "broken")
    broken = shown(page)
    page.select_option("#filter-state", "held")
    assert 0 < broken < 16 and broken + shown(page) == 16
    page.select_option("#filter-state", "")
    page.select_option("#filter-class", "Trouser")
    labels = page.locator(".item:visible").evaluate_all("all => all.map(i => i.dataset.label)")
    assert labels and set(labels) == {"Trouser"}
    page.select_option("#filter-class", "")
    page.fill("#search", "test/00003")
    assert shown(page) == 1 and "1 of 16" in page.locator("#shown").inner_text()
    page.fill("#search", "")
    page.select_option("#sort", "confidence")
    sure = page.locator(".item").evaluate_all("all => all.map(i => +i.dataset.confidence)")
    assert sure == sorted(sure)


def test_the_lightbox_opens_and_closes_from_the_keyboard(open_page: Open, report: str) -> None:
    opened = open_page(report)
    page = opened.page
    page.locator(".item .map img:visible").first.focus()
    page.keyboard.press("Enter")
    assert page.locator("#lightbox").is_visible() and page.locator("#lightbox-opacity").is_visible()
    page.locator("#lightbox-opacity").fill("25")
    assert page.locator("#lightbox-over").evaluate("i => i.style.opacity") == "0.25"
    page.keyboard.press("Escape")
    assert not page.locator("#lightbox").is_visible()
    assert opened.messages == []


def test_a_deep_link_opens_the_fold_it_points_into(open_page: Open, report: str) -> None:
    page = open_page(report).page
    anchor = page.locator("details.passed article").first.get_attribute("id")
    assert not page.locator(f"#{anchor}").is_visible()
    page.evaluate(f"location.hash = '{anchor}'")
    page.wait_for_function(f"document.getElementById('{anchor}').closest('details').open")
    assert page.locator(f"#{anchor}").is_visible()


def test_dark_follows_the_system(open_page: Open, report: str) -> None:
    shades = [
        open_page(report, color_scheme=scheme).page.evaluate(
            "getComputedStyle(document.documentElement).backgroundColor"
        )
        for scheme in ("light", "dark")
    ]
    assert shades[0] != shades[1]


def test_paper_gets_a4_pages_without_buttons(open_page: Open, report: str) -> None:
    page = open_page(report).page
    printed = page.pdf(prefer_css_page_size=True)
    assert printed.startswith(b"%PDF") and b"/MediaBox [0 0 594" in printed.replace(b"595", b"594")
    page.emulate_media(media="print")
    assert not page.locator(".copy").first.is_visible() and not page.locator(".contents").is_visible()


def test_the_default_report_fits_its_budget(report: str) -> None:
    assert len(report.encode()) < 1_000_000


def test_two_hundred_samples_with_six_maps_fit_theirs(open_page: Open) -> None:
    html = made_page_of(200)
    assert len(html.encode()) < 2_200_000
    opened = open_page(html)
    item = opened.page.locator(".item").nth(199)
    assert shown(opened.page) == 200 and item.locator(".view").first.locator(".map").count() >= 6
    assert opened.messages == []
    assert [url for url in opened.requests if not url.startswith("data:")] == []


@pytest.mark.parametrize("samples", [16, 200])
def test_a_page_lays_out_once_what_is_in_sight_and_no_more(open_page: Open, samples: int) -> None:
    work = _work_to_idle(open_page("").page, made_page_of(samples))
    assert 0 < work["LayoutObjects"] < 6_000 and work["Nodes"] < 40_000
    assert 0 < work["LayoutCount"] <= 4 and work["RecalcStyleCount"] <= 4


def _work_to_idle(page: Any, html: str) -> dict[str, float]:
    """What the browser does, counted, until it finds nothing to do; `tests/benchmarks/page.py` has the seconds."""
    session = page.context.new_cdp_session(page)
    session.send("Performance.enable")
    page.set_content(html, wait_until="load")
    page.evaluate("new Promise(done => requestIdleCallback(done))")
    return {one["name"]: one["value"] for one in session.send("Performance.getMetrics")["metrics"]}


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_no_violation(open_page: Open, report: str, scheme: str) -> None:
    place = os.environ.get("AXE_CORE")
    if not place:
        (pytest.fail if os.environ.get("CI") else pytest.skip)("AXE_CORE names no axe.min.js (npm install axe-core)")
    page = open_page(report, color_scheme=scheme, bypass_csp=True).page
    page.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
    page.add_script_tag(content=Path(str(place)).read_text(encoding="utf-8"))
    found = page.evaluate("axe.run(document, {runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'best-practice']})")
    assert [(v["id"], v["nodes"][0]["html"]) for v in found["violations"]] == []


def test_the_hash_of_trusted_code_wraps_on_a_phone(open_page: Open) -> None:
    document = made_document()
    trusted = [{"path": "net.py", "sha256": "0123456789abcdef" * 4}]
    protocol = document.protocol.model_copy(update={"trusted": trusted})
    page = open_page(render_html(document.model_copy(update={"protocol": protocol})), **PHONE).page
    assert page.evaluate("document.documentElement.scrollWidth") <= 390


def test_the_settings_of_an_attack_are_no_tower_of_words_on_a_phone(open_page: Open, report: str) -> None:
    page = open_page(report, **PHONE).page
    cells = "[...document.querySelectorAll('.settings')]"
    page.evaluate(cells + ".forEach(e => e.textContent = 'give_up True, restarts 1, steps 20')")
    heights = page.evaluate(cells + ".map(e => e.getBoundingClientRect().height)")
    assert heights and max(heights) < 75


def test_a_long_name_of_the_data_stays_in_its_column(open_page: Open) -> None:
    document = made_document()
    subject = document.subject.model_copy(update={"data": "000_n01440764_a_long_name_of_a_picture.jpg"})
    page = open_page(render_html(document.model_copy(update={"subject": subject}))).page
    wide = "[...document.querySelectorAll('.facts dd')].filter(e => e.scrollWidth > e.clientWidth).length"
    assert page.evaluate(wide) == 0
