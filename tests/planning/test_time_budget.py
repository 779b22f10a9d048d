"""How many examples keep a run within a limit: the most that do, held against trying every share."""

from __future__ import annotations

from collections.abc import Callable
from operator import attrgetter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audit.config import RunConfig, load_config
from audit.planning.build import build_plan
from audit.planning.cost import estimate_cost
from audit.planning.run_identity import RunIdentity
from audit.planning.time_budget import minimum_examples, scale_to_budget

SUBJECT = RunIdentity(
    classes=("a", "b"), shape=(3, 224, 224), test="t", test_examples=1200, architecture="r", loaded="m"
)


def configured(**overrides: Any) -> RunConfig:
    return load_config(overrides=overrides | {"hardening": {"enabled": False}})


def linear(config: RunConfig) -> float:
    return config.robustness.examples * 1.0 + config.corruptions.examples * 0.1 + config.explanations.examples * 20.0


def forwards(config: RunConfig) -> float:
    return float(estimate_cost(build_plan(config, SUBJECT).tasks, SUBJECT).passes.forwards)


@given(st.integers(20, 900), st.integers(4, 60), st.floats(1, 3000))
def test_the_largest_share_within_the_limit(attacked: int, explained: int, limit: float) -> None:
    config = configured(robustness={"examples": attacked}, explanations={"examples": explained})
    found = scale_to_budget(config, linear, limit)

    def cost(parts: int) -> float:
        sizes = ((attacked, 20, 1.0), (500, 20, 0.1), (explained, 4, 20.0))
        return sum(max(min(asked, least), asked * parts // 1000) * each for asked, least, each in sizes)

    within = [cost(parts) for parts in range(1001) if cost(parts) <= limit]
    assert found.within_limit == bool(within) and found.seconds == pytest.approx(max(within, default=cost(0)))


@pytest.mark.parametrize("preset", ["quick", "standard", "full"])
def test_its_flags_give_a_plan_of_that_cost(preset: str) -> None:
    whole = configured(preset=preset)
    least = scale_to_budget(whole, forwards, 1.0)
    limit = (least.seconds + forwards(whole)) / 2
    found = scale_to_budget(whole, forwards, limit)
    nested: dict[str, Any] = {"preset": preset}
    for name, number in found.counts.items():
        section, key = name.split(".")
        nested.setdefault(section, {})[key] = number
    assert not least.within_limit and found.within_limit and forwards(configured(**nested)) == found.seconds
    assert 0.9 * limit < found.seconds <= limit
    for name, number in found.counts.items():
        section, key = name.split(".")
        assert minimum_examples()[name] <= number < getattr(getattr(whole, section), key)


@pytest.mark.parametrize(("limit", "enough"), [(1e18, True), (0.0, False)])
def test_what_fits_is_left_alone_and_nothing_falls_below_its_least(limit: float, enough: bool) -> None:
    usual, small = configured(), dict[str, dict[str, int]]()
    least = {key: n for key, n in minimum_examples().items() if attrgetter(key)(usual) > n}
    for section, key in (name.split(".") for name in least):
        small.setdefault(section, {})[key] = least[f"{section}.{key}"] - 1
    every: Callable[[RunConfig], float] = linear
    assert scale_to_budget(configured(**small), every, limit).counts == {}
    found = scale_to_budget(configured(), every, limit)
    assert found.within_limit == enough
    assert found.counts == ({} if enough else least), "what is not asked for stays at nothing"
