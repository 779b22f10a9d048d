"""The cells of the battery over the curve of eps."""

from __future__ import annotations

import numpy as np

from audit.adversarial.batteries import battery_of_cell
from audit.adversarial.runtime_rounding import ASKED
from audit.config import RunConfig
from audit.core.looks import share_at
from audit.core.threat_format import usual_eps
from audit.core.types import PassCount
from audit.planning.battery_cost import (
    BatteryRequest,
    before_and_after,
    expected_battery_passes,
    most_battery_passes,
)
from audit.planning.builder import EXAMPLES_PER_CELL, ModelRef, PlanBuilder
from audit.planning.experience import Experience
from audit.planning.foreseen import ForeseenReading
from audit.planning.plan import Task
from audit.planning.run_identity import RunIdentity, curve_eps, headline_eps
from audit.topics.robustness.facts import RobustnessSettings


def plan(builder: PlanBuilder, model: ModelRef) -> None:
    """The battery on the evaluation images; each cell stores the adversarial images of those that are explained.

    A battery with transferred attacks gets the surrogate as input. Where the study may stop early, or the configuration
    wants small cells, the first alone runs the sanity checks and the controls: they cost as much as in one large cell.

    Args:
        builder: The plan so far.
        model: The model.
    """
    config = builder.config
    surrogates = builder.planned("surrogate", model.role) if builder.battery.wants_surrogate else ()
    for chunk in builder.growing_chunks("robustness", config.robustness.examples):
        again = chunk.start > 0 and (config.stop != "all" or config.chunk < EXAMPLES_PER_CELL)
        battery = builder.battery.without_controls() if again else builder.battery
        settings = RobustnessSettings(
            eps=curve_eps(config, builder.identity),
            headline=headline_eps(config, builder.identity),
            kept=max(0, min(chunk.stop, builder.explained.stop) - chunk.start),
            protocol=battery.describe(),
        )
        builder.add(
            "robustness",
            battery.name,
            model,
            chunk,
            settings=settings.dump() | ({"sanity_checks": False} if again else {}),
            threat=builder.threat,
            inputs={"surrogate": surrogates[0]} if surrogates else {},
        )


def max_passes(task: Task, identity: RunIdentity) -> PassCount | None:
    """The most that one image costs: no attack stops before its last step. None where an attack declares no cost.

    Args:
        task: A cell of this topic.
        identity: Identities and sizes of the data and the model.
    """
    settings = RobustnessSettings.of(task.cell)
    battery = battery_of_cell(task.cell.method, settings.protocol)
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
    settings, threat = RobustnessSettings.of(task.cell), task.cell.threat or {}
    battery = battery_of_cell(task.cell.method, settings.protocol)
    images = len(task.examples)
    request = BatteryRequest(
        battery,
        settings.eps,
        headline=threat["eps"] if settings.headline is None else settings.headline,
        usual=usual_eps(threat["norm"], identity.shape),
        images=images,
        shape=identity.shape,
        norm=threat["norm"],
    )
    expected = expected_battery_passes(request, experience.outcomes(task.cell.model))
    if expected is None:
        return None
    passes, broken = expected
    around = before_and_after(images, broken, battery.refine_steps, sanity_checks=settings.sanity_checks)
    return passes + around + PassCount(min(settings.kept, images) + 2 * min(ASKED, images), 0)


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
