"""Which steps a plan expects not to be wanted, held against stopping by the rule itself on outcomes of that share."""

from __future__ import annotations

import numpy as np
import pytest

from audit.adversarial.attack_result import AttackResult
from audit.config import RunConfig, load_config
from audit.core.cell import Cell
from audit.core.looks import share_at
from audit.core.pass_count import PassCount
from audit.planning.battery_cost import BatteryOutcomes
from audit.planning.build import build_plan
from audit.planning.cost import estimate_cost
from audit.planning.expectation import expect_costs
from audit.planning.experience import CellCost, Experience
from audit.planning.foreseen import ForeseenReading, unlikely_cells
from audit.planning.run_identity import RunIdentity
from audit.planning.steps import study_steps
from audit.planning.throughput import Throughput

SUBJECT = RunIdentity(
    classes=("a", "b"), shape=(1, 28, 28), test="t", test_examples=2000, architecture="cnn-28", loaded="file:m"
)
SAMPLE = 1000


def configured(rule: str | float) -> RunConfig:
    return load_config(overrides={"stop": rule, "robustness": {"examples": 2000}, "hardening": {"enabled": False}})


def attacked(share: float) -> Experience:
    """A model of which so large a share of images survives FGSM at the eps of the verdict, by a large sample."""
    broke = round((1 - share) * SAMPLE)
    row = AttackResult(name="fgsm", attack="fgsm", eps=0.1, survivors=SAMPLE, tried=SAMPLE, broke=broke)
    outcomes = BatteryOutcomes(SAMPLE, SAMPLE, (row,))
    cell = Cell("robustness", "probe", model="file:m")
    cost = CellCost(cell, SAMPLE, PassCount(SAMPLE, SAMPLE), 1.0, "probe", outcomes)
    return Experience(Throughput(1e-4, 2e-4), (cost,), probed=SAMPLE)


def looks(rule: str | float, share: float, threshold: float, stops: list[int]) -> int:
    """The slow twin: as many images as the rule takes of an order in which survivors are spread evenly."""
    for images in stops:
        survived = np.floor(share * (np.arange(images) + 1)) > np.floor(share * np.arange(images))
        interval = share_at("early", survived)
        decided = interval.low >= threshold or interval.high < threshold
        reach = max(interval.high - interval.estimate, interval.estimate - interval.low)
        if decided and (rule == "decides" or reach <= float(rule)):
            return images
    return stops[-1]


@pytest.mark.parametrize("share", [0.02, 0.2, 0.36, 0.45, 0.7, 1.0])
@pytest.mark.parametrize("rule", ["decides", 0.05])
def test_the_attacked_images_are_those_that_the_rule_would_take(rule: str | float, share: float) -> None:
    config = configured(rule)
    plan = build_plan(config, SUBJECT)
    unlikely = unlikely_cells(plan, config, attacked(share))
    (steps,) = (steps for steps in study_steps(plan) if steps.study == "robustness")
    stops = [step[0].examples.stop for step in steps.steps]
    taken = max(step[0].examples.stop for step in steps.steps if step[0].cell.key not in unlikely)
    assert taken == looks(rule, share, config.criteria.robust_accuracy, stops)
    later = {step[0].cell.key for step in steps.steps if step[0].examples.stop > taken}
    assert later <= unlikely


def test_under_the_rule_of_all_images_every_cell_is_wanted() -> None:
    config = configured("all")
    assert unlikely_cells(build_plan(config, SUBJECT), config, attacked(0.0)) == frozenset()


def test_what_is_unlikely_costs_nothing_and_counts_among_the_most() -> None:
    config = configured("decides")
    plan, experience = build_plan(config, SUBJECT), attacked(0.0)
    unlikely = unlikely_cells(plan, config, experience)
    without, with_all = (expect_costs(plan.tasks, SUBJECT, experience, keys) for keys in (unlikely, frozenset()))
    assert without.seconds < with_all.seconds and without.bases["unlikely"] == len(unlikely) > 0
    assert without.passes.forwards < with_all.passes.forwards
    assert estimate_cost(plan.tasks, SUBJECT).passes.forwards > with_all.passes.forwards


def test_a_threshold_within_the_interval_decides_nothing() -> None:
    interval = share_at("early", np.arange(64) < 26)
    assert not ForeseenReading(interval, 0.4).ends("decides") and not ForeseenReading(interval, 0.4).ends("all")
    assert ForeseenReading(interval, 0.9).ends("decides") and ForeseenReading(interval, 0.9).ends(0.5)
    assert not ForeseenReading(interval, 0.4).ends(0.5) and not ForeseenReading(interval, 0.9).ends(0.01)
