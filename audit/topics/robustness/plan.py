"""The cells of the battery over the curve of eps."""

from __future__ import annotations

import numpy as np

from audit.adversarial.batteries import battery_of_cell
from audit.adversarial.runtime_rounding import ASKED
from audit.config import RunConfig
from audit.core.looks import share_at
from audit.core.types import PassCount
from audit.planning.battery_cost import (
    FORWARDS_AN_IMAGE,
    before_and_after,
    expected_battery_passes,
    most_battery_passes,
)
from audit.planning.builder import ModelRef, PlanBuilder
from audit.planning.experience import Experience
from audit.planning.foreseen import ForeseenReading
from audit.planning.plan import Task
from audit.planning.run_identity import RunIdentity, curve_eps, headline_eps
from audit.topics.robustness.facts import CHOICE, EXAMINATION, STRETCH, RobustnessSettings
from audit.topics.robustness.parts import plan_parts
from audit.topics.robustness.parts_cost import (
    battery_request,
    expected_stretch_passes,
    expected_without_attacks,
    most_part_passes,
)


def plan(builder: PlanBuilder, model: ModelRef) -> None:
    """The battery on the evaluation images; each cell stores the adversarial images of those that are explained.

    A battery with transferred attacks gets the surrogate as input. Where the study may stop early, the first step alone
    runs the sanity checks: they cost as much as in one large cell. A step of more images than the configuration wants
    in a cell is cut into parts, which join to the same answer.

    Args:
        builder: The plan so far.
        model: The model.
    """
    config = builder.config
    surrogates = builder.planned("surrogate", model.role) if builder.battery.wants_surrogate else ()
    surrogate = {"surrogate": surrogates[0]} if surrogates else {}
    for step in builder.growing_chunks("robustness", config.robustness.examples):
        again = step.start > 0 and config.stop != "all"
        battery = builder.battery.without_controls() if again else builder.battery
        settings = RobustnessSettings(
            eps=curve_eps(config, builder.identity),
            headline=headline_eps(config, builder.identity),
            kept=max(0, min(step.stop, builder.explained.stop) - step.start),
            protocol=battery.describe(),
            **({"sanity_checks": False} if again else {}),
        )
        inputs = surrogate
        if len(step) > config.chunk:
            settings = settings.model_copy(update={"chunk": config.chunk})
            inputs = plan_parts(builder, model, step, battery.name, settings, surrogate)
        builder.add(
            "robustness",
            battery.name,
            model,
            step,
            settings=settings.dump(),
            threat=builder.threat,
            inputs=inputs,
        )


def max_passes(task: Task, identity: RunIdentity) -> PassCount | None:
    """The most that one image costs: no attack stops before its last step. None where an attack declares no cost.

    Args:
        task: A cell of this topic.
        identity: Identities and sizes of the data and the model.
    """
    settings = RobustnessSettings.of(task.cell)
    if task.cell.study != "robustness":
        return most_part_passes(task, identity.shape)
    battery = battery_of_cell(task.cell.method, settings.protocol)
    if settings.chunk:
        return PassCount(FORWARDS_AN_IMAGE + battery.refine_steps + 2, 0)
    images, checks = len(task.examples), settings.sanity_checks
    most = most_battery_passes(battery, len(settings.eps), images, identity.shape, sanity_checks=checks)
    return None if most is None else most + PassCount(2, 0)  # in a batch and alone


def expected_passes(task: Task, identity: RunIdentity, experience: Experience) -> PassCount | None:
    """What the cell costs when its images fare as others of the model did under attack.

    Args:
        task: A cell of this topic.
        identity: Identities and sizes of the data and the model.
        experience: What attacks did so far.

    Returns:
        The passes of the whole cell; None where an attack that was never seen declares no cost.
    """
    outcomes = experience.outcomes(task.cell.model)
    if task.cell.study in (EXAMINATION, CHOICE):
        return expected_without_attacks(task)
    request = battery_request(task, identity)
    if task.cell.study == STRETCH:
        return expected_stretch_passes(task, request, outcomes)
    expected, settings, images = (
        expected_battery_passes(request, outcomes),
        RobustnessSettings.of(task.cell),
        len(task.examples),
    )
    if expected is None:
        return None
    passes, broken = expected
    joins = settings.chunk > 0
    checks = settings.sanity_checks and not joins
    around = before_and_after(images, broken, request.battery.refine_steps, sanity_checks=checks)
    at_the_end = PassCount(min(settings.kept, images) + 2 * min(ASKED, images), 0)
    return around + at_the_end + (PassCount() if joins else passes)


def foreseen(task: Task, config: RunConfig, experience: Experience) -> ForeseenReading:
    """The robust accuracy after the last image of a cell, were as many to survive as did of others.

    Args:
        task: A cell of this topic.
        config: The configuration of the run; its criteria hold the threshold.
        experience: What attacks did so far.
    """
    images, eps = task.examples.stop, float((task.cell.threat or {})["eps"])
    share = experience.outcomes(task.cell.model).surviving(eps, eps)
    unbroken = np.arange(images) < round(share * images)
    return ForeseenReading(share_at("early", unbroken), config.criteria.robust_accuracy)
