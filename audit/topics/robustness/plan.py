"""The cells of the battery over the curve of eps."""

from __future__ import annotations

import math

from audit.adversarial.batteries import battery_of_cell
from audit.adversarial.sanity import SAMPLE
from audit.core.types import PassCount
from audit.planning.builder import ModelRef, PlanBuilder
from audit.planning.plan import Task
from audit.planning.run_identity import RunIdentity, curve_eps, headline_eps
from audit.topics.robustness.facts import RobustnessSettings

VERIFIER_FORWARDS = 2
"""Forwards per image that verify an attack's proposal at each eps: as it is, and rounded to 256 levels."""
FORWARDS_AN_IMAGE = 6
"""Forwards per image before and after the attacks: clean predictions, verified distances, logits of stored images."""
SANITY_CHECKS = PassCount(50, 44)
"""Passes per image of the sanity checks of a battery: gradients, noise, PGD in the whole box."""


def plan(builder: PlanBuilder, model: ModelRef) -> None:
    """The battery on the evaluation images; each cell stores the adversarial images of those that are explained.

    A battery with transferred attacks gets the surrogate as input. Where the study may stop early its cells are small,
    and the first alone runs the sanity checks and the controls: they cost as much as in one large cell.

    Args:
        builder: The plan so far.
        model: The model.
    """
    config = builder.config
    surrogates = builder.planned("surrogate", model.role) if builder.battery.wants_surrogate else ()
    for chunk in builder.growing_chunks("robustness", config.robustness.examples):
        again = config.stop != "all" and chunk.start > 0
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
    battery, curve = battery_of_cell(task.cell.method, settings.protocol), len(settings.eps)
    checked = min(1.0, SAMPLE / max(1, len(task.examples))) if settings.sanity_checks else 0.0
    total = PassCount(
        FORWARDS_AN_IMAGE + math.ceil(checked * SANITY_CHECKS.forwards), math.ceil(checked * SANITY_CHECKS.backwards)
    )
    for entry in battery.entries:
        method = entry.method
        passes = method.max_passes(method.settings(entry.settings), identity.shape)
        if passes is None:
            return None
        times = 1 if entry.control_sample or method.facts["minimal"] else curve
        total += PassCount(times * (passes.forwards + VERIFIER_FORWARDS), times * passes.backwards)
    return total + PassCount(battery.refine_steps, 0)
