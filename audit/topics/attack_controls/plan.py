"""The cells of the sanity checks of attacks."""

from __future__ import annotations

from typing import Any

from audit.adversarial.batteries import battery_of_cell
from audit.core.registry import find
from audit.core.types import PassCount
from audit.planning.battery_cost import VERIFIER_FORWARDS, most_battery_passes
from audit.planning.builder import ModelRef, PlanBuilder
from audit.planning.experience import Experience
from audit.planning.plan import Task
from audit.planning.run_identity import RunIdentity, curve_eps
from audit.topics.attack_controls import AttackControlsConfig
from audit.topics.attack_controls.facts import AttackControlsSettings
from audit.topics.attack_controls.protocol import BOX_RESTARTS, PGD, twice

FORWARDS_TO_JUDGE = VERIFIER_FORWARDS + 1
"""Forwards an image that judge one control: the clean prediction, and the verifier's."""
SHARE_OF_STEPS_TO_BREAK = 0.2
"""The share of its steps that PGD takes on an image that it breaks, as it usually is: its step is a tenth of eps."""


def plan(builder: PlanBuilder, model: ModelRef) -> None:
    """The sanity checks on the first of the examples that were attacked, as many to a cell as the configuration says.

    Args:
        builder: The plan so far.
        model: The model.
    """
    attacked = builder.planned("robustness", model.role)[0]
    examples = min(builder.config.table(AttackControlsConfig).examples, len(attacked.examples))
    for chunk in builder.chunks(examples):
        builder.add(
            "attack-controls",
            builder.battery.name,
            model,
            chunk,
            settings=AttackControlsSettings(
                eps=curve_eps(builder.config, builder.identity),
                pgd=find("attack", "pgd").full_version,
                protocol=builder.battery.describe(),
            ).dump(),
            threat=attacked.cell.threat,
            inputs={"robustness": attacked},
        )


def max_passes(task: Task, identity: RunIdentity) -> PassCount | None:
    """PGD at every eps and in the whole box, noise, FGSM, and the battery with twice its effort, none stopping early.

    Args:
        task: A cell of this topic.
        identity: Identities and sizes of the data and the model.
    """
    settings, shape = AttackControlsSettings.of(task.cell), identity.shape
    battery = twice(battery_of_cell(task.cell.method, settings.protocol))
    doubled = most_battery_passes(battery, 1, len(task.examples), shape)
    if doubled is None:
        return None
    total, judgements = doubled, 0
    for name, changed, times in _controls(len(settings.eps)):
        method = find("attack", name)
        passes = method.max_passes(method.settings(changed), shape)
        assert passes is not None  # attacks that ship declare what they cost
        total += PassCount(times * passes.forwards, times * passes.backwards)
        judgements += times
    return total + PassCount(judgements * FORWARDS_TO_JUDGE, 0)


def expected_passes(task: Task, identity: RunIdentity, experience: Experience) -> PassCount | None:
    """The controls on images that fare as others of the model did, and twice the battery on those that survive it.

    Args:
        task: A cell of this topic.
        identity: Identities and sizes of the data and the model.
        experience: What attacks did so far.

    Returns:
        The passes of the whole cell; None where an attack declares no cost.
    """
    if (alike := experience.passes_like(task)) is not None:
        return alike
    settings, shape, images = AttackControlsSettings.of(task.cell), identity.shape, len(task.examples)
    headline = float((task.cell.threat or {})["eps"])
    outcomes = experience.outcomes(task.cell.model)
    method = find("attack", "pgd")
    once = method.max_passes(method.settings(PGD), shape)
    survivors = images * outcomes.surviving(headline, headline)
    doubled = most_battery_passes(
        twice(battery_of_cell(task.cell.method, settings.protocol)), 1, round(survivors), shape
    )
    if doubled is None or once is None:
        return None
    unbroken = [
        outcomes.surviving(headline, headline),
        *(outcomes.surviving(eps, headline) for eps in settings.eps),
        0.0,
    ]
    searches = sum(share + (1 - share) * SHARE_OF_STEPS_TO_BREAK for share in unbroken)
    fixed = [(name, changed, times) for name, changed, times in _controls(len(settings.eps)) if name != "pgd"]
    others = sum(_most_forwards(name, changed, shape) * times for name, changed, times in fixed)
    judged = FORWARDS_TO_JUDGE * (len(unbroken) + len(fixed))
    return PassCount(
        round(images * (searches * once.forwards + others + judged) + survivors * doubled.forwards),
        round(images * (searches * once.backwards + 1) + survivors * doubled.backwards),
    )


def _controls(eps: int) -> tuple[tuple[str, dict[str, Any], int], ...]:
    """Attacks with their settings, and how often each runs."""
    return (
        ("pgd", {**PGD}, 1 + eps),
        ("pgd", {**PGD, "restarts": BOX_RESTARTS}, 1),
        ("random-noise", {}, 1),
        ("fgsm", {"loss": "margin"}, 1),
    )


def _most_forwards(name: str, changed: dict[str, Any], shape: tuple[int, int, int]) -> int:
    method = find("attack", name)
    passes = method.max_passes(method.settings(changed), shape)
    return passes.forwards if passes else 0
