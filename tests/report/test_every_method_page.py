"""The page of every attribution method that ships in samples/: none is missing from it."""

from __future__ import annotations

import re

import pytest

from audit.config import load_config
from audit.core.registry import methods
from audit.core.resources import resource_dir
from audit.document.locale import load_locale
from audit.topics.attribution_quality import AttributionQualityConfig
from audit.topics.drift import DriftConfig
from audit.topics.self_test import SelfTestConfig
from audit.topics.shortcuts import ShortcutsConfig

REMAKE = (
    "samples/every-method.html is out of date. Make it anew: audit run samples/every-method.toml --out every-method, "
    "then copy every-method/report.html to samples/every-method.html"
)
METHODS = [method.name for method in methods("attribution")]
WRITTEN = [load_locale().method(name) for name in METHODS]


@pytest.fixture(scope="module")
def page() -> str:
    return (resource_dir("samples") / "every-method.html").read_text("utf-8")


def part(page: str, start: str, end: str) -> str:
    at = page.index(start)
    return page[at : page.index(end, at)]


def rows(table: str) -> list[str]:
    return re.findall(r'<tr><th scope="row"><bdi>([^<]*)</bdi>', table)


def test_the_configuration_asks_for_every_method_and_everything_about_it() -> None:
    config = load_config(resource_dir("samples") / "every-method.toml")
    assert config.explanations.methods == ("all",)
    assert all(config.table(table).enabled for table in (AttributionQualityConfig, DriftConfig, SelfTestConfig))
    assert config.table(ShortcutsConfig).examples > 0


def test_every_method_stands_in_the_table_with_verdicts_or_the_reason_for_none(page: str) -> None:
    table = part(page, '<h3 id="methods">', "</table>")
    assert sorted(set(rows(table))) == sorted(WRITTEN), REMAKE
    for line in re.findall(r"<tr><th scope=\"row\">.*?</tr>", table, re.DOTALL):
        assert line.count('class="badge') >= 4 or "Not applicable: " in line, line


def test_every_method_with_maps_is_compared_drawn_and_its_drift_shown(page: str) -> None:
    table = part(page, '<h3 id="methods">', "</table>")
    bare = {row for row in WRITTEN if _not_applicable(table, row)}
    drawn = sorted(set(WRITTEN) - bare)
    assert "LIME" in drawn and "Attention rollout" in bare
    agreement = part(page, "Do the methods agree?", "</table>")
    assert sorted(rows(agreement)) == drawn, REMAKE
    assert sorted(set(rows(part(page, '<h3 id="drift">', "</table>")))) == drawn, REMAKE
    choices = part(page, '<fieldset class="methods">', "</fieldset>")
    assert sorted(re.findall(r"<bdi>([^<]*)</bdi>", choices)) == drawn, REMAKE


def _not_applicable(table: str, row: str) -> bool:
    line = table[table.index(f"<bdi>{row}</bdi>") :]
    return "Not applicable: " in line[: line.index("</tr>")]


def test_the_search_for_shortcuts_is_silent_on_clean_data_and_the_calibration_is_told(page: str) -> None:
    for role in ("standard", "hardened"):
        assert f"No single place was found to decide a class for the {role} model" in page
    assert 'id="oracles"' in page and "problems with known answers on this device" in page


def test_the_page_stays_small(page: str) -> None:
    assert len(page.encode()) < 1_500_000
