"""What the parts of a battery cost, whose cells a cell of attacks joins."""

from __future__ import annotations

import math
from collections.abc import Sequence

from audit.adversarial.batteries import battery_of_cell
from audit.adversarial.battery_schedule import AttackRun, battery_schedule
from audit.adversarial.sanity import SAMPLE
from audit.core.threat_format import usual_eps
from audit.core.types import PassCount
from audit.planning.battery_cost import (
    SANITY_CHECKS,
    VERIFIER_FORWARDS,
    BatteryOutcomes,
    BatteryRequest,
    before_and_after,
    expected_battery_passes,
)
from audit.planning.plan import Task
from audit.planning.run_identity import RunIdentity
from audit.topics.robustness.facts import (
    CHOICE,
    EXAMINATION,
    RobustnessSettings,
    StretchSettings,
    asked_threat,
)

FEW_FORWARDS = 4
"""Forwards of an image that is looked at before the attacks, besides the sanity checks: whether the model is random,
whether the image is right, and whether there is a gradient."""


def most_part_passes(task: Task, shape: tuple[int, int, int]) -> PassCount | None:
    """The most that one image costs a part of a battery, as `most_battery_passes` of the whole.

    Args:
        task: A cell of one of the studies of parts.
        shape: Of an image, (C, H, W).

    Returns:
        The passes of one image; None where an attack declares no cost.
    """
    if task.cell.study == EXAMINATION:
        checked = min(1.0, SAMPLE / max(1, len(task.examples)))
        forwards, backwards = SANITY_CHECKS.forwards, SANITY_CHECKS.backwards
        return PassCount(FEW_FORWARDS + math.ceil(checked * forwards), math.ceil(checked * backwards))
    if task.cell.study == CHOICE:
        return PassCount()
    settings = StretchSettings.of(task.cell)
    battery = battery_of_cell(task.cell.method, settings.protocol)
    _, eps, headline = asked_threat(task.cell)
    schedule = battery_schedule(battery, eps, headline)
    return _most_of(schedule[slice(*settings.runs)], shape)


def expected_without_attacks(task: Task) -> PassCount:
    """What the parts of a battery cost that attack nothing.

    Args:
        task: An examination or a choice.
    """
    if task.cell.study == CHOICE:
        return PassCount()
    checks = RobustnessSettings.of(task.cell).sanity_checks
    return before_and_after(len(task.examples), 0.0, 0, sanity_checks=checks)


def battery_request(task: Task, identity: RunIdentity) -> BatteryRequest:
    """The battery of a cell of attacks and the images that it runs on.

    Args:
        task: The cell.
        identity: Gives the size of an image.
    """
    norm, eps, headline = asked_threat(task.cell)
    return BatteryRequest(
        battery_of_cell(task.cell.method, RobustnessSettings.of(task.cell).protocol),
        eps,
        headline=headline,
        usual=usual_eps(norm, identity.shape),
        images=len(task.examples),
        shape=identity.shape,
        norm=norm,
    )


def expected_stretch_passes(task: Task, request: BatteryRequest, outcomes: BatteryOutcomes) -> PassCount | None:
    """What a stretch of attacks costs when its images fare as others of the model did under attack.

    Args:
        task: A stretch.
        request: The battery on the images of the cell.
        outcomes: What attacks did to other images of the model.

    Returns:
        The passes of the whole cell; None where an attack that was never seen declares no cost.
    """
    expected = expected_battery_passes(request, outcomes, StretchSettings.of(task.cell).runs)
    return None if expected is None else expected[0] + PassCount(len(task.examples), 0)


def _most_of(schedule: Sequence[AttackRun], shape: tuple[int, int, int]) -> PassCount | None:
    total = PassCount(1, 0)  # the clean prediction, which opens the books
    for run in schedule:
        method = run.entry.method
        passes = method.max_passes(method.settings(run.entry.settings), shape)
        if passes is None:
            return None
        total += PassCount(passes.forwards + VERIFIER_FORWARDS, passes.backwards)
    return total
