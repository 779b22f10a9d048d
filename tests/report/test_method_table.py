"""Methods beside the checks that judged them, and who agrees with whom."""

from __future__ import annotations

import re
from itertools import pairwise

import numpy as np
import pytest
from made_entries import METHODS, entry, results_of
from made_run import built_rows, made_document, made_page

from audit.document.locale import load_locale
from audit.report.html import render_html
from audit.topics.explanations.view import method_table
from audit.topics.faithfulness.view import faithfulness_chart


def lines() -> dict[tuple[str, str], dict[str, str]]:
    document = made_document()
    table = method_table(document, ((str(i), found) for i, found in enumerate(document.findings)))
    return {
        (line.method, line.role): {
            check: told[1].verdict for check, told in zip(table.checks, line.findings, strict=True) if told
        }
        for line in table.lines
    }


def test_every_method_of_every_model_has_a_line_with_its_verdicts() -> None:
    table = lines()
    assert set(table) == {(m, role) for m in (*METHODS, "layer-cam") for role in ("standard", "hardened")}
    assert table["integrated-gradients", "standard"]["steered-explanations"] == "warn"
    assert table["lime", "standard"] == {
        "deletion-against-random": "warn",
        "randomised-weights": "pass",
        "steered-explanations": "pass",
    }
    assert [key for key, told in table.items() if not told] == list(table)[-2:], "methods without a verdict stand last"


def test_a_run_that_judged_no_method_has_no_table() -> None:
    document = made_document().model_copy(update={"findings": []})
    assert method_table(document, ()).lines == ()


@pytest.mark.parametrize("language", ["en", "zh"])
def test_every_verdict_leads_to_a_finding_on_the_page(language: str) -> None:
    page = made_page(language)
    table = page[page.index('id="methods"') :]
    anchors = re.findall(r'href="#(finding-\d+)"', table[: table.index("</table>")])
    assert len(anchors) == sum(map(len, lines().values()))
    assert all(f'id="{anchor}"' in page for anchor in anchors)
    assert "The net has no layer with a spatial map." in table[: table.index("</table>")]


def test_the_agreement_of_two_methods_stands_in_numbers_and_a_constant_map_is_a_dash() -> None:
    part = made_document().agreements[0]
    assert part.matrix[2][3] is None and part.matrix[0][0] == 1.0 and part.n == 24
    page = made_page()
    for value in (value for row in part.matrix for value in row if value is not None):
        assert f">{value:.2f}<".replace("-", "\u2212") in page
    assert "Without maps: Layer-CAM." in page


def test_the_gallery_states_what_each_map_explains() -> None:
    page = made_page()
    assert "Saliency explains the logit of the predicted class. Baseline: mean. Segments: none." in page
    assert "LIME explains the logit of the predicted class. Baseline: none. Segments: none." in page


def test_the_gallery_says_what_full_colour_stands_for_and_how_large_each_map_is() -> None:
    document, page = made_document(), made_page()
    (standard, hardened), (name, *_) = document.gallery[0].views, document.gallery[0].views[0].maps
    reach = [
        f"{'±' if v.maps[name].signed else ''}{v.maps[name].scale:.2g} ({v.role} model)" for v in (standard, hardened)
    ]
    assert f"Full colour stands for {reach[0]} and {reach[1]}, on every image alike" in page
    drawn = standard.maps[name]
    assert f"<figcaption>Attribution {'±' if drawn.signed else ''}{drawn.largest:.2g}</figcaption>" in page
    bare = document.model_copy(deep=True)
    for item in bare.gallery:
        for view in item.views:
            for one in (*view.maps.values(), *view.adversarial_maps.values()):
                one.largest = None
    older = render_html(bare)
    assert "Full colour" not in older and "<figcaption>Attribution</figcaption>" in older


def test_page_shows_how_far_maps_moved_beside_noise_of_the_same_size() -> None:
    document = made_document()
    rows = [row for row in document.measures if row.study == "drift" and row.name == "agreement"]
    page = render_html(document)
    table = page[page.index('id="drift"') :]
    table = table[: table.index("</table>")]
    assert table.count("<tr>") == 1 + len({(row.method, row.role) for row in rows})
    for row in rows:
        assert f"{row.mean:.2f}" in table
        assert f"{row.low:.2f} to {row.high:.2f}; noise {row.controls['random']:.2f}; n = {row.n}" in table
    assert "From the other model" not in table
    assert table.count("<td>–</td>") == 2


def test_maps_moved_from_one_model_to_the_next_have_their_own_column() -> None:
    document = made_document()
    one = next(row for row in document.measures if row.study == "drift" and row.name == "agreement")
    between = one.model_copy(update={"condition": "between-models", "mean": -0.123, "controls": {}})
    page = render_html(document.model_copy(update={"measures": [between]}))
    table = page[page.index('id="drift"') :]
    table = table[: table.index("</table>")]
    assert (
        "From the other model" in table and "\u22120.12" in table and "; noise " not in table[table.index("<tbody>") :]
    )
    assert 'id="drift"' not in render_html(document.model_copy(update={"measures": []}))


def test_removal_under_every_fill_stands_in_the_table_and_the_first_alone_is_drawn() -> None:
    values = {
        f"{mode}_area{fill}{control}": np.full(24, 0.5 if control else at)
        for mode, fill, at in (("deletion", "", 0.2), ("insertion", "", 0.7), ("deletion", "_blur", 0.4))
        for control in ("", "_random")
    }
    facts = {"protocol": "", "fills": ["mean", "blur"]}
    results = results_of(entry("faithfulness", "standard", values, method="saliency", facts=facts))
    rows = built_rows("faithfulness", results)
    found = [(row.measure, row.fill, round(row.advantage, 3)) for row in rows]
    assert found == [("deletion", "mean", 0.3), ("insertion", "mean", 0.2), ("deletion", "blur", 0.1)]
    drawn = faithfulness_chart(rows, load_locale())
    assert "+0.300" in drawn and "+0.100" not in drawn
    page = render_html(made_document().model_copy(update={"faithfulness": rows}))
    assert re.search(r'lower is better <span class="bounds">[^<]*blur', page)


@pytest.mark.parametrize("low, high", [(-0.35, 0.3), (-0.21, 0.09), (-0.9, 0.95), (0.0, 0.9), (-0.0012, 0.0031)])
def test_the_numbers_below_the_chart_of_faithfulness_have_room_beside_each_other(low: float, high: float) -> None:
    row = made_document().faithfulness[0].model_copy(update={"measure": "deletion", "low": low, "high": high})
    row.advantage = (low + high) / 2
    drawn = faithfulness_chart([row], load_locale())
    ticks = re.findall(r'<text text-anchor="middle" transform="translate\(([\d.]+),[\d.]+\)"[^>]*>[\u2212\d.]+<', drawn)
    places = [float(x) for x in ticks]
    assert len(places) >= 3 and min(b - a for a, b in pairwise(places)) > 50, places
