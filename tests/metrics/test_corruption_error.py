from __future__ import annotations

import pytest

from audit.core.errors import UsageError
from audit.metrics.corruption_error import mean_corruption_error, relative_corruption_error

MODEL = {"fog": [0.1, 0.3], "snow": [0.5, 0.7]}
OTHER = {"fog": [0.2, 0.2], "snow": [0.6, 1.0]}


def test_the_plain_mean_weighs_every_corruption_alike() -> None:
    found = mean_corruption_error({"fog": [0.1, 0.2, 0.3], "snow": [0.6]})
    assert found.mean == pytest.approx(0.4) and found.by_corruption == pytest.approx({"fog": 0.2, "snow": 0.6})


def test_the_relative_error_is_the_mean_of_ratios_not_the_ratio_of_means() -> None:
    found = relative_corruption_error(MODEL, OTHER, of="the standard model")
    assert found.by_corruption == pytest.approx({"fog": 1.0, "snow": 0.75}) and found.mean == pytest.approx(0.875)


def test_a_model_relative_to_itself_is_one() -> None:
    assert relative_corruption_error(MODEL, MODEL, of="itself").mean == pytest.approx(1)


def test_the_name_says_what_it_is_relative_to_and_never_mce() -> None:
    assert relative_corruption_error(MODEL, OTHER, of="the standard model").name.endswith("the standard model")
    assert "mce" not in mean_corruption_error(MODEL).name.lower()


@pytest.mark.parametrize(
    "reference", [{"fog": [0.2, 0.2]}, {"fog": [0.2], "snow": [0.6, 1.0]}, {"fog": [0.0, 0.0], "snow": [0.6, 1.0]}]
)
def test_a_reference_that_cannot_be_one_is_refused(reference) -> None:
    with pytest.raises(UsageError):
        relative_corruption_error(MODEL, reference, of="the other")


@pytest.mark.parametrize("errors", [{}, {"fog": []}, {"fog": [1.2]}])
def test_errors_that_are_no_shares_are_refused(errors) -> None:
    with pytest.raises(UsageError):
        mean_corruption_error(errors)
