"""The cells of the battery over the curve of eps."""

from __future__ import annotations

from typing import Any

from audit.adversarial.batteries import AttackSpec, battery_named
from audit.core.registry import find
from audit.core.types import PassCount
from audit.planning.builder import ModelRef, PlanBuilder
from audit.planning.plan import Task
from audit.planning.run_identity import RunIdentity, curve_eps, headline_eps

VERIFIER_FORWARDS = 4
"""Forwards an attack's answer is verified with, at each eps."""


def plan(builder: PlanBuilder, model: ModelRef) -> None:
    """The battery in cells of examples; each keeps the adversarial images of those that are explained.

    A battery that transfers attacks is given the surrogate.
    """
    config = builder.config.robustness
    surrogates = builder.planned("surrogate", model.role) if battery_named(config.battery).wants_surrogate else ()
    for part in builder.chunks(config.examples):
        builder.add(
            "robustness",
            config.battery,
            model,
            part,
            settings={
                "eps": list(curve_eps(builder.config, builder.identity)),
                "headline": headline_eps(builder.config, builder.identity),
                "kept": max(0, min(part.stop, builder.explained.stop) - part.start),
                "protocol": battery_protocol(config.battery),
            },
            threat=builder.threat,
            inputs={"surrogate": surrogates[0]} if surrogates else {},
        )


def battery_protocol(name: str) -> list[Any]:
    """Everything of a battery that changes its answers.

    Args:
        name: Name of the battery.

    Returns:
        Its attacks in order with their settings and versions, and its number of refinement steps.
    """
    battery = battery_named(name)
    attacks = [
        [entry.title, entry.attack, method.settings(entry.settings), method.full_version, entry.sample]
        + (["transferred"] if entry.transferred else [])
        + ([entry.closest] if entry.closest < 1 else [])
        for entry, method in ((entry, find("attack", entry.attack)) for entry in battery.entries)
    ]
    return [attacks, battery.shrink]


def max_passes(task: Task, identity: RunIdentity) -> PassCount:
    """What one image costs at most: as if it were not broken before the last step of the last attack."""
    battery, curve = battery_named(task.cell.method), len(task.cell.settings["eps"])
    passes = PassCount(1, 0)
    for entry in battery.entries:
        times = 1 if entry.sample else curve
        forwards, backwards = _attack(entry)
        passes += PassCount(times * (forwards + VERIFIER_FORWARDS), times * backwards)
    return passes + PassCount(battery.shrink * curve, 0)


def _attack(entry: AttackSpec) -> tuple[int, int]:
    method = find("attack", entry.attack)
    settings = method.settings(entry.settings)
    rounds = 1
    for name in ("steps", "restarts", "targets", "queries", "draws"):
        rounds *= int(settings.get(name) or 1)
    return rounds + 2, rounds + 2 if method.facts["needs"] == "gradients" else 0
