"""What holds of every check."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest
from made_entries import (
    corruption_entries,
    results_of,
)
from made_run import made_results

from audit.config import load_config
from audit.core.registry import Method, methods
from audit.core.statistics import Interval
from audit.document.display_names import display_name
from audit.document.locale import load_locale
from audit.results.check_result import at_least, at_most
from audit.results.run_checks import run_checks

CONFIG = load_config()


@pytest.mark.parametrize(
    ("low", "high", "least", "most"),
    [(0.5, 0.7, "pass", "fail"), (0.3, 0.7, "inconclusive", "inconclusive"), (0.1, 0.3, "fail", "pass")],
)
def test_the_verdict_rests_on_the_bound_not_on_the_point(low: float, high: float, least: str, most: str) -> None:
    interval = Interval((low + high) / 2, low, high, 100, "")
    assert at_least(interval, 0.4) == least
    assert at_most(interval, 0.4) == most


def test_a_check_is_silent_where_nothing_was_measured() -> None:
    results = results_of(*corruption_entries("standard", 0.1))
    assert {f.check for f in run_checks(results, CONFIG)} == set()


def test_every_template_of_every_finding_fills() -> None:
    found = run_checks(made_results(), CONFIG)
    assert {f.check for f in found} >= {
        "clean-accuracy",
        "robust-accuracy",
        "calibration",
        "corruption",
        "deletion-against-random",
    }
    for finding in found:
        assert finding.title and finding.explanation and finding.criterion
        assert "{" not in finding.title + finding.explanation + finding.criterion + finding.advice


def test_checks_load_no_torch() -> None:
    code = "import sys, audit.results.run_checks as j; j.methods('check'); assert 'torch' not in sys.modules"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize(
    ("identifier", "text"),
    [
        ("lime", "LIME"),
        ("integrated-gradients", "Integrated gradients"),
        ("grad-cam", "Grad-CAM"),
        ("grad-cam-plus-plus", "Grad-CAM++"),
        ("apgd-t-closest", "APGD-T closest"),
        ("random_noise", "Random noise"),
    ],
)
def test_identifiers_are_written_as_readers_know_them(identifier: str, text: str) -> None:
    assert display_name(identifier) == text


@pytest.mark.parametrize("method", methods("check"), ids=lambda method: method.name)
def test_a_criterion_says_what_is_asked_and_not_what_is(method: Method) -> None:
    criterion = str(method.facts["criterion"])
    assert re.search(r"\b(must|may)\b", criterion), criterion
    chinese = load_locale("zh").texts[f"check.{method.name}.criterion"]
    assert re.search("须|不得|可有", chinese), chinese
