"""The shipped page of every method: long tables of methods stay readable on a desk, a phone and paper."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from audit.core.resources import resource_dir

Open = Callable[..., Any]
A4_BETWEEN_MARGINS = 680


@pytest.fixture(scope="module")
def html() -> str:
    return (resource_dir("samples") / "every-method.html").read_text("utf-8")


def test_it_opens_without_a_request_or_a_word(open_page: Open, html: str) -> None:
    opened = open_page(html)
    assert opened.page.locator(".item").count() == 6
    assert opened.messages == []
    assert [url for url in opened.requests if not url.startswith("data:")] == []


@pytest.mark.parametrize("width", [1280, 1600])
def test_tables_of_methods_fit_a_desk(open_page: Open, html: str, width: int) -> None:
    page = open_page(html, viewport={"width": width, "height": 900}).page
    for table in page.locator(".told, .many").all():
        assert table.evaluate("t => t.parentElement.scrollWidth <= t.parentElement.clientWidth")


def test_on_a_phone_they_scroll_in_their_box_and_the_method_stays_in_sight(open_page: Open, html: str) -> None:
    page = open_page(html, viewport={"width": 390, "height": 844}).page
    page.evaluate("document.querySelectorAll('details').forEach(part => part.open = true)")
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    for table in page.locator(".told, .many").all():
        moved = table.evaluate("t => (t.parentElement.scrollLeft = 200, t.parentElement.scrollLeft)")
        name = table.locator("tbody th").first.bounding_box()
        assert moved == 200 and name["x"] == pytest.approx(16, abs=1)


def test_paper_holds_the_whole_matrix(open_page: Open, html: str) -> None:
    page = open_page(html, viewport={"width": A4_BETWEEN_MARGINS, "height": 900}).page
    page.emulate_media(media="print")
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    wide = "[...document.querySelectorAll('table')].map(t => t.getBoundingClientRect().right)"
    assert max(page.evaluate(wide)) <= A4_BETWEEN_MARGINS


def test_each_method_shows_its_own_maps_and_an_empty_one_says_so(open_page: Open, html: str) -> None:
    page = open_page(html).page
    choices = page.locator("fieldset.methods label")
    for index in range(choices.count()):
        choices.nth(index).click()
        assert page.locator(".item .map:visible").count() >= 12
        assert page.locator(f".item .map:visible:not(.method-{index})").count() == 0
    choices.filter(has_text="Grad-CAM").first.click()
    assert page.locator(".item .map:visible figcaption", has_text="all zero").count() > 0
