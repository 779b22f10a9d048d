"""The Chinese page as it is drawn: words stay whole in narrow tables, and paper leaves raw listings out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from made_run import made_page

Open = Callable[..., Any]

STANDING = """() => [...document.querySelectorAll("th, td")].filter(cell => {
  if (getComputedStyle(cell).writingMode !== "horizontal-tb") return false;
  const drawn = document.createRange();
  drawn.selectNodeContents(cell);
  const tall = drawn.getBoundingClientRect().height > 2.2 * parseFloat(getComputedStyle(cell).fontSize);
  return tall && /^[\\u4e00-\\u9fff]{2,6}$/.test(cell.textContent.trim());
}).map(cell => cell.textContent.trim())"""


@pytest.fixture(scope="module")
def chinese() -> str:
    return made_page("zh")


@pytest.mark.parametrize("width", [390, 1280])
def test_no_word_stands_on_end_in_a_table(open_page: Open, chinese: str, width: int) -> None:
    page = open_page(chinese, viewport={"width": width, "height": 800}).page
    page.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
    assert page.evaluate(STANDING) == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_paper_keeps_tables_inside_the_page_and_raw_listings_off_it(open_page: Open, chinese: str) -> None:
    a4_between_margins = 680
    page = open_page(chinese, viewport={"width": a4_between_margins, "height": 900}).page
    page.emulate_media(media="print")
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert page.locator("details:not([open])").count() == page.locator("details.raw").count() > 0
    assert not page.locator("details.raw").first.is_visible()
    assert page.evaluate(STANDING) == []
    wide = "[...document.querySelectorAll('table')].map(t => t.getBoundingClientRect().right)"
    assert max(page.evaluate(wide)) <= a4_between_margins


def test_words_that_stand_in_a_column_of_their_own_are_upright(open_page: Open, chinese: str) -> None:
    page = open_page(chinese).page
    turned = """[...document.querySelectorAll('.confusion thead th')]
      .filter(cell => /[\\u4e00-\\u9fff]/.test(cell.textContent))
      .map(cell => getComputedStyle(cell).transform)"""
    assert set(page.evaluate(turned)) == {"none"}
